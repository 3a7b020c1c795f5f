"""90 keeps the key while anything needs it or could not be looked at, and says what; ignoring is one grant at a time."""

from __future__ import annotations

from typing import Any

import pytest
from walk import Walk

from runbook_lib.errors import AccessDenied
from runbook_lib.inputs.rds import CleanUpInputs
from runbook_lib.plan import Change
from runbook_lib.steps import clean_up

ROLE = "arn:aws:iam::123456789012:role/Admin"


@pytest.fixture
def with_key(walk: Walk) -> Walk:
    walk.start().pair()
    walk.encrypt()
    walk.bring_in()
    return walk


def grant(walk: Walk, **constraints: Any) -> str:
    given = {"Constraints": {"EncryptionContextSubset": constraints}} if constraints else {}
    made = walk.client().create_grant(KeyId=walk.key_id, GranteePrincipal=ROLE, Operations=["DescribeKey"], **given)
    return str(made["GrantId"])


def of_key(walk: Walk, **given: Any) -> Change:
    return clean_up.plan(walk.step("90"), CleanUpInputs.check(given)).change("KMS key")


def cleaned(walk: Walk, **given: Any) -> str:
    """Do 90, and return the key's state."""
    step, asked = walk.step("90"), CleanUpInputs.check({"confirm_db_cluster_identifier": "aurora-byok", **given})
    clean_up.apply(step, clean_up.plan(step, asked))
    clean_up.verify(step)
    return str(walk.key["KeyState"])


def test_without_users_the_key_goes(with_key: Walk) -> None:
    """The twin of all that follows."""
    assert "delete" == of_key(with_key).action
    assert "PendingDeletion" == cleaned(with_key)


def test_a_foreign_grant_keeps_the_key_until_it_is_ignored_by_its_id(with_key: Walk) -> None:
    """Two grants: ignoring one is not ignoring the other; kept by rule is no failure."""
    grants = [grant(with_key), grant(with_key)]
    assert f"still needed by grant {grants[0]}, grant {grants[1]}" == of_key(with_key).detail
    assert f"still needed by grant {grants[1]}" == of_key(with_key, ignore_grant_ids=grants[:1]).detail
    assert "Enabled" == cleaned(with_key, ignore_grant_ids=grants[:1])
    assert "PendingDeletion" == cleaned(with_key, ignore_grant_ids=grants)


def test_a_grant_that_names_another_cluster_keeps_the_key(with_key: Walk) -> None:
    """A context of RDS alone is no proof that the grant is this run's."""
    other = grant(with_key, **{"aws:rds:dbc-id": "cluster-OF-OTHERS"})
    assert f"still needed by grant {other}" == of_key(with_key).detail


def test_the_grant_of_the_runs_own_deleted_cluster_does_not(with_key: Walk) -> None:
    """RDS retires it later than it deletes the cluster."""
    with_key.run.note("05_create_cluster", db_cluster_identifier="aurora-byok", db_cluster_resource_id="cluster-OURS")
    grant(with_key, **{"aws:rds:dbc-id": "cluster-OURS"})
    assert "delete" == of_key(with_key).action


def test_what_may_not_be_looked_at_keeps_the_key(with_key: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The permission that would tell is named."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AccessDenied("you are not authorized to call logs:DescribeLogGroups")

    step = with_key.step("90")
    monkeypatch.setattr(step.session.client("logs"), "get_paginator", refuse)
    kept = clean_up.plan(step, CleanUpInputs.check({})).change("KMS key")
    assert ("keep", "still needed by log groups (not looked at: needs logs:DescribeLogGroups)") == (
        kept.action,
        kept.detail,
    )


def test_a_long_list_is_cut_with_the_command_that_shows_it_all(with_key: Walk) -> None:
    """Eight are named."""
    for number in range(11):
        with_key.client("logs").create_log_group(logGroupName=f"/one/{number}", kmsKeyId=with_key.key["Arn"])
    detail = of_key(with_key).detail
    assert 8 == detail.count("log group /one/")
    assert detail.endswith(f" and 3 more; all of it: runbook key-users {with_key.key['Arn']}")


def test_what_came_after_the_plan_keeps_the_key_too(with_key: Walk) -> None:
    """The key is asked again right before its deletion is scheduled."""
    step, asked = with_key.step("90"), CleanUpInputs.check({"confirm_db_cluster_identifier": "aurora-byok"})
    plan = clean_up.plan(step, asked)
    with_key.client("secretsmanager").create_secret(Name="late", SecretString="x", KmsKeyId=with_key.key["Arn"])
    outcome = clean_up.apply(step, plan)
    assert "kept: still needed by secret late" in str(getattr(outcome, "rows", outcome))
    assert "Enabled" == with_key.key["KeyState"]
