"""The checks of step 10: the new cluster beside what was read of the existing one."""

from __future__ import annotations

from runbook_lib.aws.cluster_settings import ClusterSettings, members_of, read_settings
from runbook_lib.checks import Checks
from runbook_lib.run.clusters import SETTINGS_FILE, ExistingClusterRecord
from runbook_lib.run.records import KeyRecord
from runbook_lib.steps import settings_difference
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.tables import Table, as_text


def compare(step: OpenStep, record: ExistingClusterRecord) -> Checks:
    """Return a check for each difference between the new cluster and what was read of the source; one that passes for none."""
    before = ClusterSettings.from_json(step.run.read(SETTINGS_FILE))
    new = read_settings(step.session, record.db_cluster_identifier)
    checks = Checks(f"{record.db_cluster_identifier} beside {record.source_db_cluster_identifier}")
    if new is None:
        checks.equal("the new cluster exists", record.db_cluster_identifier, None, source="rds:DescribeDBClusters")
        return checks
    key_arn = KeyRecord.from_run(step.run).key_arn
    checks.equal(
        "its KMS key is the key of this run", key_arn, new.cluster.get("KmsKeyId"), source="rds:DescribeDBClusters"
    )
    cluster, instance = members_of(step.session, "DBCluster"), members_of(step.session, "DBInstance")
    new = ClusterSettings.from_json(new.to_json())  # times as texts, as in the file
    found = settings_difference.differences(before, new, cluster_members=cluster, instance_members=instance)
    compared = len(set(cluster) - set(settings_difference.NOT_COMPARED_OF_CLUSTER))
    of_instances = len(set(instance) - set(settings_difference.NOT_COMPARED_OF_INSTANCE))
    words = f"{compared} settings of the cluster and {of_instances} of each instance are those of the source"
    checks.equal(
        words, "no difference", "no difference" if not found else f"{len(found)} differ", source="the SDK's members"
    )
    for one in found:
        claim, source = f"{one.where}: {one.member}", "rds:DescribeDBClusters and others"
        checks.holds(claim, as_text(one.source), as_text(one.new), lambda _: False, source=source)
    for member in new.instances:
        if member.get("PerformanceInsightsEnabled"):
            claim = f"Performance Insights of {member['DBInstanceIdentifier']} is under the key of this run"
            checks.equal(claim, key_arn, member.get("PerformanceInsightsKMSKeyId"), source="rds:DescribeDBInstances")
    return checks


def not_compared() -> Table:
    """Return what the comparison leaves out, with the reason for each."""
    rows = []
    for of, left_out in (
        ("cluster", settings_difference.NOT_COMPARED_OF_CLUSTER),
        ("instance", settings_difference.NOT_COMPARED_OF_INSTANCE),
    ):
        for why in dict.fromkeys(left_out.values()):
            rows.append((of, why, ", ".join(member for member, reason in left_out.items() if reason == why)))
    return Table("Not compared", ("", "why", "members"), rows)
