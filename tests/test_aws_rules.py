"""AWS's rules for names and numbers: the inputs and the sandbox accept and refuse the same literal examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from kms_support import connect, external, import_material, reset

from runbook_lib.errors import InputError
from runbook_lib.inputs.aws_rules import BOTH, MYSQL, RULES, Rule, check
from runbook_lib.inputs.base import Inputs
from runbook_lib.run.steps import STEP_INPUTS

CASES = [
    pytest.param(
        rule, engine, value, accepted, id=f"{rule.field}-{engine[7:]}-{str(value)[:20]}-{len(str(value))}-{accepted}"
    )
    for rule in RULES
    for engine in rule.engines[: 1 if rule.engines == BOTH else 2]
    for accepted, values in ((True, rule.accepted), (False, rule.refused))
    for value in values
]


def test_every_row_has_examples_of_both_kinds_and_a_page() -> None:
    """And a row judges its own examples, whatever other rows of the field say."""
    for rule in RULES:
        assert rule.accepted
        assert rule.refused
        assert rule.source.startswith("https://")
        assert all(rule.holds(value) for value in rule.accepted), rule.says
        assert not any(rule.holds(value) for value in rule.refused), rule.says


def model_of(field: str) -> type[Inputs] | None:
    return next((model for model in STEP_INPUTS.values() if field in model.model_fields), None)


def given_for(rule: Rule, engine: str, value: Any) -> dict[str, Any]:
    """Return parameters that are right but for this value."""
    if rule.field in ("tag_key", "tag_value"):
        return {"tags": {value: "x"} if rule.field == "tag_key" else {"team": value}}
    listed = rule.field == "enable_cloudwatch_logs_exports"
    given: dict[str, Any] = {"engine": engine, rule.field: [value] if listed else value}
    if rule.field == "monitoring_interval":
        given["monitoring_role_arn"] = "arn:aws:iam::123456789012:role/monitoring"
    if rule.field == "serverless_min_capacity":
        given["serverless_max_capacity"] = 256.0
    if rule.field == "serverless_max_capacity":
        given["serverless_min_capacity"] = 0.0
    return given


def of_another_row(rule: Rule, engine: str, value: Any) -> bool:
    """Return whether another row of the field refuses what this row accepts."""
    return any(
        not other.holds(value)
        for other in RULES
        if other.field == rule.field and engine in other.engines and other is not rule
    )


@pytest.mark.parametrize(("rule", "engine", "value", "accepted"), CASES)
def test_the_inputs_follow_the_table(rule: Rule, engine: str, value: Any, accepted: bool) -> None:
    """A refusal names the field and the rule that is broken."""
    tags = rule.field in ("tag_key", "tag_value")
    model = model_of("tags" if tags else rule.field)
    if model is None:  # derived from the identifier of the cluster
        model = STEP_INPUTS["05_create_cluster"]
        rule_field, number = "db_cluster_identifier", int(value.rpartition("-")[2])
        given: dict[str, Any] = {rule_field: value.rpartition("-")[0], "reader_count": number - 1}
    else:
        rule_field = "tags" if tags else rule.field
        given = given_for(rule, engine, value)
    if rule.field == "db_cluster_identifier" and accepted and len(value) > 61:
        given["db_cluster_identifier"] = value[:61]  # its instances need room for -1
    if accepted and not of_another_row(rule, engine, value):
        model.read(given)
        return
    with pytest.raises(InputError) as caught:
        model.read(given)
    ((field, said),) = caught.value.problems
    assert rule_field == field
    assert "\n" not in said
    if not accepted and field == rule.field and not field.startswith("wrapping_"):  # those name what to use instead
        assert rule.says.split(";")[0].replace("{value}", str(value)).replace("{engine}", engine) in said


class Sandbox:
    """One request for each field, right but for the value."""

    def __init__(self, endpoint: str, engine: str) -> None:
        self.engine, self.kms, self.rds = engine, connect(endpoint), connect(endpoint, "rds")

    def cluster(self, **given: Any) -> None:
        asked = {"DBClusterIdentifier": "rules", "Engine": self.engine, "MasterUsername": "dbadmin",
                 "ManageMasterUserPassword": True, **given}  # fmt: skip
        name = self.rds.create_db_cluster(**asked)["DBCluster"]["DBClusterIdentifier"]
        self.rds.delete_db_cluster(DBClusterIdentifier=name, SkipFinalSnapshot=True)

    def instance(self, **given: Any) -> None:
        self.rds.create_db_cluster(
            DBClusterIdentifier="rules", Engine=self.engine, MasterUsername="dbadmin", ManageMasterUserPassword=True,
            ServerlessV2ScalingConfiguration={"MinCapacity": 0.5, "MaxCapacity": 2},
        )  # fmt: skip
        self.rds.create_db_instance(**{
            "DBInstanceIdentifier": "rules-1", "DBClusterIdentifier": "rules", "Engine": self.engine,
            "DBInstanceClass": "db.r6g.large", **given,
        })  # fmt: skip

    def key_alias(self, value: str) -> None:
        self.kms.create_alias(AliasName=value, TargetKeyId=external(self.kms)["KeyId"])

    def key_description(self, value: str) -> None:
        self.kms.create_key(Description=value)

    def wrapping_algorithm(self, value: str) -> None:
        self.kms.get_parameters_for_import(
            KeyId=external(self.kms)["KeyId"], WrappingAlgorithm=value, WrappingKeySpec="RSA_2048"
        )

    def wrapping_key_spec(self, value: str) -> None:
        self.kms.get_parameters_for_import(
            KeyId=external(self.kms)["KeyId"], WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec=value
        )

    def key_material_description(self, value: str) -> None:
        import_material(self.kms, external(self.kms)["KeyId"], b"7" * 32, KeyMaterialDescription=value)

    def pending_window_in_days(self, value: int) -> None:
        self.kms.schedule_key_deletion(KeyId=external(self.kms)["KeyId"], PendingWindowInDays=value)

    def db_cluster_identifier(self, value: str) -> None:
        self.cluster(DBClusterIdentifier=value)

    def db_instance_identifier(self, value: str) -> None:
        self.instance(DBInstanceIdentifier=value)

    def final_db_snapshot_identifier(self, value: str) -> None:
        self.rds.create_db_cluster(
            DBClusterIdentifier="rules", Engine=self.engine, MasterUsername="dbadmin", ManageMasterUserPassword=True
        )
        self.rds.delete_db_cluster(DBClusterIdentifier="rules", FinalDBSnapshotIdentifier=value)

    def master_username(self, value: str) -> None:
        self.cluster(MasterUsername=value)

    def database_name(self, value: str) -> None:
        self.cluster(DatabaseName=value)

    def tag_key(self, value: str) -> None:
        self.cluster(Tags=[{"Key": value, "Value": "x"}])

    def tag_value(self, value: str) -> None:
        self.cluster(Tags=[{"Key": "team", "Value": value}])

    def port(self, value: int) -> None:
        self.cluster(Port=value)

    def backup_retention_period(self, value: int) -> None:
        self.cluster(BackupRetentionPeriod=value)

    def promotion_tier(self, value: int) -> None:
        self.instance(PromotionTier=value)

    def monitoring_interval(self, value: int) -> None:
        role = connect(self.kms.meta.endpoint_url, "iam").create_role(
            RoleName="monitoring", AssumeRolePolicyDocument='{"Statement":[{"Effect":"Allow","Action":"sts:AssumeRole",'
            '"Principal":{"Service":"monitoring.rds.amazonaws.com"}}]}',
        )["Role"]["Arn"]  # fmt: skip
        self.instance(MonitoringInterval=value, MonitoringRoleArn=role)

    def serverless_max_capacity(self, value: float) -> None:
        self.cluster(ServerlessV2ScalingConfiguration={"MinCapacity": 0, "MaxCapacity": value})

    def serverless_min_capacity(self, value: float) -> None:
        self.cluster(ServerlessV2ScalingConfiguration={"MinCapacity": value, "MaxCapacity": 256})

    def enable_cloudwatch_logs_exports(self, value: str) -> None:
        self.cluster(EnableCloudwatchLogsExports=[value])


@pytest.mark.parametrize(("rule", "engine", "value", "accepted"), CASES)
def test_the_sandbox_follows_the_table(served: str, rule: Rule, engine: str, value: Any, accepted: bool) -> None:
    """With an error of AWS's, not of the server."""
    reset(served)
    request: Callable[[Any], None] = getattr(Sandbox(served, engine), rule.field)
    if accepted and not of_another_row(rule, engine, value):
        request(value)
        return
    with pytest.raises(ClientError) as caught:
        request(value)
    assert 400 <= caught.value.response["ResponseMetadata"]["HTTPStatusCode"] < 500


def test_a_long_value_is_shown_by_its_beginning() -> None:
    """One line stays one line."""
    with pytest.raises(ValueError, match=r"^'ddd+… is too long") as caught:
        check("key_description", "d" * 9000, MYSQL)
    assert 160 > len(str(caught.value))
