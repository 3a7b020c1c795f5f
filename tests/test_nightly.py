"""A nightly verification never leaves "verified" behind when it could not verify: each refusal is a failed row and a report."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from walk import Walk

from runbook_cli.runner import chain, notebook
from runbook_lib.aws import sandbox_process
from runbook_lib.errors import AccessDenied, CredentialsMissing, StepFailed, VerificationFailed
from runbook_lib.inputs.rds import VerifyEncryptionInputs
from runbook_lib.steps import verify_encryption


@pytest.fixture
def verified(walk: Walk) -> Walk:
    """A verified run with two backups."""
    walk.start().pair().encrypt(recovery_public_keys=[walk.public(0), walk.public(1)])
    walk.bring_in()
    return walk.cluster()


def night(walk: Walk, **given: Any) -> dict[str, Any]:
    """Verify again, as the scheduler does, and return the report."""
    step, asked = walk.step("06"), VerifyEncryptionInputs.check(given)
    verify_encryption.apply(step, verify_encryption.plan(step, asked))
    with suppress(VerificationFailed):
        verify_encryption.verify(step)
    return report(walk)


def report(walk: Walk) -> dict[str, Any]:
    return dict(json.loads((walk.path / "report.json").read_text()))


def failed(found: dict[str, Any]) -> dict[str, str]:
    return {check["claim"]: check["actual"] for check in found["checks"] if not check["passed"]}


def dated(walk: Walk) -> int:
    """Return how many dated reports say that the run is not verified."""
    kept = [json.loads(path.read_text()) for path in (walk.path / "reports").glob("*-report.json")]
    return sum(not one["verified"] for one in kept)


def test_with_all_backups_the_night_passes(verified: Walk) -> None:
    """The twin: the report says how many of how many are there."""
    found = night(verified)
    assert {} == failed(found)
    claims = {check["claim"]: check["actual"] for check in found["checks"]}
    assert "2 of 2" == claims["backups of the key material in the run folder"]


@pytest.mark.parametrize("lost", [1, 2])
def test_a_missing_backup_fails_and_names_the_parameter(verified: Walk, lost: int) -> None:
    """Unless the operator says that they are in a safe place."""
    for path in sorted(verified.path.glob("KeyMaterial.recovery-*.bin"))[:lost]:
        path.unlink()
    actual = failed(night(verified))["backups of the key material in the run folder"]
    assert actual.startswith(f"{2 - lost} of 2; ")
    assert "backups_kept_elsewhere: true" in actual
    assert "FAILED" in (verified.path / "report.html").read_text()
    assert night(verified, backups_kept_elsewhere=True)["verified"]


def test_a_key_that_is_gone_is_a_failed_report(verified: Walk) -> None:
    """Deleted by AWS after its waiting period: dated report, red page, and every other part is still looked at."""
    assert 0 == dated(verified)
    verified.client().schedule_key_deletion(KeyId=verified.key_id, PendingWindowInDays=7)
    clock = {"advance_seconds": timedelta(days=8).total_seconds()}
    sandbox_process.call(verified.endpoint, "/runbook/clock", body=clock, method="POST")
    found = night(verified)
    assert not found["verified"]
    assert "NotFoundException" in failed(found)["the key can be read"]
    assert [check for check in found["checks"] if check["claim"] == "the master password is managed by RDS"]
    assert 1 == dated(verified)
    assert "FAILED" in (verified.path / "report.html").read_text()


@pytest.mark.parametrize(("service", "call", "claim"), [
    ("rds", "describe_db_clusters", "the cluster aurora-byok can be read"),
    ("rds", "describe_db_instances", "the instances can be read"),
    ("secretsmanager", "describe_secret", "the secret can be read"),
    ("kms", "describe_key", "the key can be read"),
    ("cloudtrail", "lookup_events", "the CloudTrail events can be read"),
])  # fmt: skip
def test_a_refusal_is_a_failed_row_and_the_rest_is_read(
    verified: Walk, monkeypatch: pytest.MonkeyPatch, service: str, call: str, claim: str
) -> None:
    """Whichever call is denied, the reports are written and name it."""
    step = verified.step("06")
    assert 0 == dated(verified)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AccessDenied(f"you are not authorized to call {service}")

    client = step.session.client(service)
    paginator = client.get_paginator
    monkeypatch.setattr(client, call, refuse)
    monkeypatch.setattr(client, "get_paginator", lambda name: refuse() if name == call else paginator(name))
    verify_encryption.apply(step, verify_encryption.plan(step, VerifyEncryptionInputs.check({})))
    with pytest.raises(VerificationFailed, match="not authorized"):
        verify_encryption.verify(step)
    found = report(verified)
    assert f"you are not authorized to call {service}" == failed(found)[claim]
    assert 5 < sum(check["passed"] for check in found["checks"])
    assert 1 == dated(verified)


def test_a_night_that_ends_before_any_evidence_takes_the_verdict_back(
    verified: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No credentials: 06 cannot even open the run; the report says so, and when it was last verified."""
    assert report(verified)["verified"]
    last = report(verified)["verified_at"]
    reason = str(CredentialsMissing("no credentials were found; sign in"))
    monkeypatch.setattr(notebook, "execute_notebook", lambda *_, **__: reason)
    one = chain.Chain(verified.path, {}, print, object())  # type: ignore[arg-type]
    with pytest.raises(StepFailed, match="no credentials"):
        one.execute_rest()
    assert {"the verification ran to its end": f"no: {reason}"} == failed(report(verified))
    page = (verified.path / "report.html").read_text()
    assert "FAILED" in page
    assert last in page
    assert 1 == dated(verified)


@pytest.mark.parametrize("content", [None, "", "not JSON", "[]", "\xff", '{"verified": false}', '{"verified": true}'])
def test_without_a_whole_verdict_there_is_none_to_take_back(
    verified: Walk, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    """The first verification fails with its own reason, and what lies there is left alone."""
    path = verified.path / "report.json"
    path.unlink()
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr(notebook, "execute_notebook", lambda *_, **__: "WrongAccount: you are signed in to another")
    one = chain.Chain(verified.path, {}, print, object())  # type: ignore[arg-type]
    with pytest.raises(StepFailed, match="WrongAccount"):
        one.execute_rest()
    assert content == (path.read_text() if path.exists() else None)
