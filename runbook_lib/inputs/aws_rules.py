"""AWS's rules for names and numbers, once: each row has literal examples on both sides, and the page it comes from.

The inputs ask this table, and the tests put the same examples to the inputs and to the sandbox. A row states what AWS
accepts. Where the runbook accepts less, that is in the inputs, with its reason. Whether something exists is not a rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runbook_lib.reserved_words import reserved_database, reserved_user

MYSQL, POSTGRESQL = "aurora-mysql", "aurora-postgresql"
BOTH = (MYSQL, POSTGRESQL)
_RDS = "https://docs.aws.amazon.com/AmazonRDS/latest/APIReference/API_"
_KMS = "https://docs.aws.amazon.com/kms/latest/APIReference/API_"
_SEEN = "https://github.com/aws-cloudformation/cfn-lint/pull/4425"  # tried there on AWS, engine by engine

LOGS = {
    MYSQL: ("audit", "error", "general", "instance", "slowquery", "iam-db-auth-error"),
    POSTGRESQL: ("instance", "postgresql", "iam-db-auth-error"),
}


@dataclass(frozen=True)
class Rule:
    """What AWS accepts for one parameter, of some engines; `says` completes "'value' …" in the error."""

    field: str
    says: str
    holds: Callable[[Any], bool]
    accepted: tuple[Any, ...]
    refused: tuple[Any, ...]
    source: str
    engines: tuple[str, ...] = BOTH


def _text(pattern: str) -> Callable[[Any], bool]:
    compiled = re.compile(pattern)
    return lambda value: bool(compiled.fullmatch(value))


def _number(least: float, most: float, step: float = 1) -> Callable[[Any], bool]:
    return lambda value: bool(least <= value <= most and value / step == int(value / step))


_IDENTIFIER = r"(?=.{{1,{0}}}$)[a-z](?:-?[a-z0-9])*"
_IDENTIFIER_SAYS = (
    "is not a valid identifier: write 1 to {0} lower-case letters, digits and single hyphens, beginning with a letter and not "
    "ending in a hyphen"
)
_NO_IDENTIFIERS = ("1st", "a--b", "ends-", "under_score", "dotted.name", "-a", "b" * 256)

RULES = (
    # KMS ----------------------------------------------------------------------------------------------------------------
    Rule("key_alias", "does not begin with 'alias/'; write 'alias/{value}'", _text(r"alias/.*"),
         ("alias/aurora-byok",), ("aurora", "Alias/aurora", "arn:aws:kms"), _KMS + "CreateAlias.html"),
    Rule("key_alias", "is reserved for AWS managed keys; choose a name that does not begin with 'alias/aws/'",
         lambda value: not value.startswith("alias/aws/"), ("alias/aws", "alias/awsome/rds"), ("alias/aws/rds", "alias/aws/x"),
         _KMS + "CreateAlias.html"),
    Rule("key_alias", "is not a valid alias: write at most 250 letters, digits, '/', '_' or '-' after 'alias/'",
         _text(r"alias/[a-zA-Z0-9/_-]{1,250}"), ("alias/a", "alias/team/db_1-x", "alias/" + "a" * 250),
         ("alias/", "alias/a b", "alias/a:b", "alias/ä", "alias/a.b", "alias/" + "a" * 251), _KMS + "CreateAlias.html"),
    Rule("key_description", "is too long: write at most 8192 characters", lambda value: len(value) <= 8192,
         ("", "ä" * 100, "d" * 8192), ("d" * 8193,), _KMS + "CreateKey.html"),
    Rule("wrapping_algorithm", "cannot wrap key material of 256 bits", _text("RSAES_OAEP_SHA_(1|256)"),
         ("RSAES_OAEP_SHA_256", "RSAES_OAEP_SHA_1"),
         ("RSAES_PKCS1_V1_5", "RSA_AES_KEY_WRAP_SHA_256", "RSA_AES_KEY_WRAP_SHA_1", "RSAES_OAEP_SHA_512"),
         _KMS + "GetParametersForImport.html"),
    Rule("wrapping_key_spec", "is not a valid wrapping key spec", _text("RSA_(2048|3072|4096)"),
         ("RSA_2048", "RSA_3072", "RSA_4096"), ("RSA_1024", "rsa_4096", "ECC_NIST_P256"), _KMS + "GetParametersForImport.html"),
    Rule("key_material_description",
         "is not a valid description: write at most 256 letters, digits, spaces and : / _ . -",
         _text(r"[a-zA-Z0-9:/_\s.-]{1,256}"), ("safe-3/card-7", "vault: box 2.1", "m" * 256),
         ("safe #3", "Tresor für Anna", "a,b", "m" * 257), _KMS + "ImportKeyMaterial.html"),
    Rule("pending_window_in_days", "is not a valid waiting period: write 7 to 30 days", _number(7, 30),
         (7, 30), (6, 31, 0), _KMS + "ScheduleKeyDeletion.html"),
    # RDS: names ---------------------------------------------------------------------------------------------------------
    Rule("db_cluster_identifier", _IDENTIFIER_SAYS.format(63), _text(_IDENTIFIER.format(63)),
         ("a", "aurora-byok", "a1-b2", "c" * 63), ("c" * 64, *_NO_IDENTIFIERS), _RDS + "CreateDBCluster.html"),
    Rule("db_instance_identifier", _IDENTIFIER_SAYS.format(63), _text(_IDENTIFIER.format(63)),
         ("aurora-byok-1", "i" * 61 + "-1", "i" * 60 + "-16"), ("i" * 62 + "-1", "i" * 61 + "-16"),
         _RDS + "CreateDBInstance.html"),
    Rule("final_db_snapshot_identifier", _IDENTIFIER_SAYS.format(255), _text(_IDENTIFIER.format(255)),
         ("last-one", "s" * 255), _NO_IDENTIFIERS, _RDS + "DeleteDBCluster.html"),
    Rule("master_username",
         "is not a valid master user name: write 1 to 16 letters, digits or '_', beginning with a letter",
         _text(r"[A-Za-z][A-Za-z0-9_]{0,15}"), ("dbadmin", "App_owner1", "u" * 16),
         ("1st", "with-hyphen", "with.dot", "_app", "u" * 17, "ümlaut"), _RDS + "CreateDBInstance.html"),
    Rule("master_username", "is reserved by {engine}; choose another, e.g. 'dbadmin'",
         lambda value: not reserved_user(MYSQL, value), ("admin", "Admin", "user", "root", "postgres", "pg_dba"),
         ("rdsadmin", "RDSADMIN", "select"), _SEEN, (MYSQL,)),
    Rule("master_username", "is reserved by {engine}; choose another, e.g. 'dbadmin'",
         lambda value: not reserved_user(POSTGRESQL, value), ("postgres", "root", "rank", "clusteradmin"),
         ("admin", "ADMIN", "rdsadmin", "user", "select", "pg_dba"), _SEEN, (POSTGRESQL,)),
    Rule("database_name", "is not a valid database name: write a letter, then letters, digits or '_', at most 64",
         _text(r"[A-Za-z][A-Za-z0-9_]{0,63}"), ("appdb", "app_db1", "d" * 64), ("1st", "my-svc-dev", "_app", "d" * 65),
         _RDS + "CreateDBInstance.html", (MYSQL,)),
    Rule("database_name", "is not a valid database name: write a letter, then letters, digits or '_', at most 63",
         _text(r"[A-Za-z][A-Za-z0-9_]{0,62}"), ("appdb", "app_db1", "d" * 63), ("1st", "my-svc-dev", "_app", "d" * 64),
         _RDS + "CreateDBInstance.html", (POSTGRESQL,)),
    Rule("database_name", "is reserved by {engine}; choose another, e.g. 'appdb'",
         lambda value: not reserved_database(MYSQL, value), ("admin", "user", "orders"),
         ("mysql", "select", "rank", "information_schema", "SYS"), "https://dev.mysql.com/doc/refman/8.0/en/keywords.html",
         (MYSQL,)),
    Rule("database_name", "is reserved by {engine}; choose another, e.g. 'appdb'",
         lambda value: not reserved_database(POSTGRESQL, value), ("mysql", "rank", "orders"),
         ("admin", "user", "select", "template1"), "https://www.postgresql.org/docs/16/sql-keywords-appendix.html", (POSTGRESQL,)),
    Rule("tag_key",
         "is not a valid key: write 1 to 128 letters, digits, spaces or + - = . _ : / @, not beginning with aws: or rds:",
         lambda value: bool(re.fullmatch(r"[\w\s+=.:/@-]{1,128}", value)) and not value.lower().startswith(("aws:", "rds:")),
         ("team", "cost center", "Größe", "a+b=c/d@e:f_g.h-i", "k" * 128), ("", "aws:x", "AWS:x", "rds:x", "a*b", "a,b", "k" * 129),
         _RDS + "Tag.html"),
    Rule("tag_value", "is not a valid value: write at most 256 letters, digits, spaces or + - = . _ : / @",
         _text(r"[\w\s+=.:/@-]{0,256}"), ("", "42", "Zürich / 3", "v" * 256), ("a*b", "50 %", "v" * 257),
         _RDS + "Tag.html"),
    # RDS: numbers and lists ---------------------------------------------------------------------------------------------
    Rule("port", "is not a valid port: write 1150 to 65535, or 0 for the engine's default", _number(1150, 65535),
         (1150, 3306, 5432, 65535), (80, 1149, 65536), _RDS + "CreateDBCluster.html"),
    Rule("backup_retention_period", "is not a valid retention: write 1 to 35 days", _number(1, 35), (1, 35), (0, 36),
         _RDS + "CreateDBCluster.html"),
    Rule("promotion_tier", "is not a valid failover priority: write 0 to 15", _number(0, 15), (0, 15), (-1, 16),
         _RDS + "CreateDBInstance.html"),
    Rule("monitoring_interval", "seconds is not a valid interval; write 0 (off), 1, 5, 10, 15, 30 or 60",
         lambda value: value in (0, 1, 5, 10, 15, 30, 60), (1, 5, 10, 15, 30, 60), (7, 2, 61), _RDS + "CreateDBInstance.html"),
    Rule("serverless_max_capacity", "is not a valid capacity: write 1 to 256 ACUs in steps of 0.5", _number(1, 256, 0.5),
         (1.0, 2.5, 256.0), (0.5, 0.7, 256.5), _RDS + "ServerlessV2ScalingConfiguration.html"),
    Rule("serverless_min_capacity", "is not a valid capacity: write 0 to 256 ACUs in steps of 0.5", _number(0, 256, 0.5),
         (0.0, 0.5, 2.0), (-0.5, 0.3), _RDS + "ServerlessV2ScalingConfiguration.html"),
    Rule("enable_cloudwatch_logs_exports", "is not a log of {engine}; choose from audit, error, general, instance, slowquery, "
         "iam-db-auth-error", lambda value: value in LOGS[MYSQL], ("audit", "error", "slowquery"), ("postgresql", "upgrade"),
         _RDS + "CreateDBCluster.html", (MYSQL,)),
    Rule("enable_cloudwatch_logs_exports", "is not a log of {engine}; choose from instance, postgresql, iam-db-auth-error",
         lambda value: value in LOGS[POSTGRESQL], ("postgresql", "instance"), ("audit", "slowquery"),
         _RDS + "CreateDBCluster.html", (POSTGRESQL,)),
)  # fmt: skip

LONGEST_IDENTIFIER = 63


def check(field: str, value: Any, engine: str = "") -> Any:
    """Return `value` if it keeps every rule of `field`, of `engine` where rules differ; raise ValueError with the first broken."""
    for rule in RULES:
        if rule.field == field and (not engine or engine in rule.engines) and not rule.holds(value):
            says = rule.says.replace("{value}", str(value)).replace("{engine}", engine)
            shown = repr(value)
            raise ValueError(f"{shown if len(shown) < 100 else shown[:60] + '…'} {says}")
    return value


def rule(field: str, *, optional: bool = False) -> Callable[[Any], Any]:
    """Return a pydantic validator for `field`, of rules that are the same for every engine; `optional` lets '' and 0 pass."""
    return lambda value: value if optional and not value else check(field, value)


def longest_cluster_identifier(instances: int) -> int:
    """Return how long a cluster identifier can be whose instances are named `<cluster>-1` to `<cluster>-<instances>`."""
    return LONGEST_IDENTIFIER - 1 - len(str(instances))
