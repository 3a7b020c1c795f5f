"""Words that an engine or RDS reserves: neither a master user nor the first database can be named like one.

RDS says so (API reference, CreateDBCluster) and lists no words. `admin`, `rdsadmin`, `root`, `postgres` and `pg_…` are as
seen in public reports and files of real deployments; the word lists are the reserved keywords of MySQL 8.0 and of
PostgreSQL (appendix C), which were not tried against RDS one by one.
"""

from __future__ import annotations

_MYSQL_WORDS = """
accessible add all alter analyze and as asc asensitive before between bigint binary blob both by call cascade case change
char character check collate column condition constraint continue convert create cross cube cume_dist current_date
current_time current_timestamp current_user cursor database databases day_hour day_microsecond day_minute day_second dec
decimal declare default delayed delete dense_rank desc describe deterministic distinct distinctrow div double drop dual
each else elseif empty enclosed escaped except exists exit explain false fetch first_value float float4 float8 for force
foreign from fulltext function generated get grant group grouping groups having high_priority hour_microsecond hour_minute
hour_second if ignore in index infile inner inout insensitive insert int int1 int2 int3 int4 int8 integer intersect
interval into io_after_gtids io_before_gtids is iterate join json_table key keys kill lag last_value lateral lead leading
leave left like limit linear lines load localtime localtimestamp lock long longblob longtext loop low_priority
master_bind master_ssl_verify_server_cert match maxvalue mediumblob mediumint mediumtext middleint minute_microsecond
minute_second mod modifies natural not no_write_to_binlog nth_value ntile null numeric of on optimize optimizer_costs
option optionally or order out outer outfile over partition percent_rank precision primary procedure purge range rank
read reads read_write real recursive references regexp release rename repeat replace require resignal restrict return
revoke right rlike row rows row_number schema schemas second_microsecond select sensitive separator set show signal
smallint spatial specific sql sqlexception sqlstate sqlwarning sql_big_result sql_calc_found_rows sql_small_result ssl
starting stored straight_join system table terminated then tinyblob tinyint tinytext to trailing trigger true undo union
unique unlock unsigned update usage use using utc_date utc_time utc_timestamp values varbinary varchar varcharacter
varying virtual when where while window with write xor year_month zerofill
"""
_POSTGRESQL_WORDS = """
all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create current_catalog
current_date current_role current_time current_timestamp current_user default deferrable desc distinct do else end except
false fetch for foreign from grant group having in initially intersect into lateral leading limit localtime
localtimestamp not null offset on only or order placing primary references returning select session_user some symmetric
system_user table then to trailing true union unique user using variadic when where window with
"""

# Names that the engine or RDS itself uses. `admin` is the default of Aurora MySQL, and reserved by RDS for PostgreSQL.
_USERS = {
    "aurora-mysql": frozenset({"rdsadmin", "rdsrepladmin", "rdsproxyadmin", "rds_superuser_role"}),
    "aurora-postgresql": frozenset(
        [
            "admin",
            "rdsadmin",
            "rdsrepladmin",
            "rdsproxyadmin",
            "rdstopmgr",
            "rds_superuser",
            "rds_replication",
            "rds_iam",
            "rds_password",
        ]
    ),
}
_DATABASES = {
    "aurora-mysql": frozenset({"mysql", "information_schema", "performance_schema", "sys"}),
    "aurora-postgresql": frozenset({"admin", "rdsadmin", "template0", "template1"}),
}
_WORDS = {"aurora-mysql": frozenset(_MYSQL_WORDS.split()), "aurora-postgresql": frozenset(_POSTGRESQL_WORDS.split())}


def reserved_user(engine: str, name: str) -> bool:
    """Return whether a master user of the engine cannot have this name."""
    role_of_postgresql = engine == "aurora-postgresql" and name.lower().startswith("pg_")
    return role_of_postgresql or name.lower() in _USERS[engine] | _WORDS[engine]


def reserved_database(engine: str, name: str) -> bool:
    """Return whether a first database of the engine cannot have this name."""
    return name.lower() in _DATABASES[engine] | _WORDS[engine]
