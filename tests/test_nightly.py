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
from runbook_lib.errors import (
    AccessDenied,
    CredentialsMissing,
    PlanOutdated,
    StepFailed,
    VerificationFailed,
    WaitTimedOut,
)
from runbook_lib.inputs.rds import CleanUpInputs, VerifyEncryptionInputs
from runbook_lib.inputs.recovery import RecoveryDrillInputs
from runbook_lib.run.run import Run
from runbook_lib.steps import clean_up, recovery_drill, reports, verify_encryption

pytestmark = pytest.mark.slow


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


DAMAGED = [
    None,
    "",
    "not JSON",
    "[]",
    "\xff",
    "[" * 100_000,
    '{"verified": false}',
    '{"verified": true}',
    '{"format": 99}',
]


def fail_without_evidence(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "execute_notebook", lambda *_, **__: "WrongAccount: you are signed in to another")
    one = chain.Chain(walk.path, {}, print, object())  # type: ignore[arg-type]
    with pytest.raises(StepFailed, match="WrongAccount"):
        one.execute_rest()


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: str(content)[:20])
def test_a_damaged_report_json_does_not_keep_the_verdict_on_the_page(
    verified: Walk, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    """The page said verified; what report.json cannot tell any more, state.json does."""
    path, page = verified.path / "report.json", verified.path / "report.html"
    last = report(verified)["verified_at"]
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert "<b>Verified.</b>" in page.read_text()
    fail_without_evidence(verified, monkeypatch)
    assert "<b>Verified.</b>" not in page.read_text()
    assert "WrongAccount" in page.read_text()
    assert last in page.read_text()
    found = report(verified)
    assert (False, verified.run.record("05_create_cluster")["db_cluster_arn"]) == (
        found["verified"],
        found["db_cluster_arn"],
    )


def test_without_a_report_there_is_no_verdict_to_take_back(verified: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first verification fails with its own reason, and no report appears."""
    for name in ("report.json", "report.html"):
        (verified.path / name).unlink()
    fail_without_evidence(verified, monkeypatch)
    assert not [name for name in ("report.json", "report.html") if (verified.path / name).exists()]


@pytest.mark.parametrize("part", ["wait_until_available", "gather"])
def test_a_verification_in_a_notebook_that_ends_early_takes_the_verdict_back(
    verified: Walk, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Also without `runbook run`: the cell fails, and the page no longer says verified."""

    def end(*_: Any, **__: Any) -> Any:
        raise WaitTimedOut("the cluster is still starting")

    monkeypatch.setattr(verify_encryption, part, end)
    with pytest.raises(WaitTimedOut):
        night(verified)
    assert not report(verified)["verified"]
    assert "the cluster is still starting" in (verified.path / "report.html").read_text()
    assert 1 == dated(verified)


def test_a_plan_that_is_refused_is_no_failed_verification(verified: Walk) -> None:
    """Nothing was looked at: the report stands."""
    step = verified.step("06")
    plan = verify_encryption.plan(step, VerifyEncryptionInputs.check({}))
    verified.run.note("05_create_cluster", db_subnet_group_name="other")
    with pytest.raises(PlanOutdated):
        verify_encryption.apply(step, plan)
    assert report(verified)["verified"]


def test_a_crash_between_the_two_files_leaves_no_old_verdict(verified: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever file is the last that a failed verification writes."""
    verified.delete_material()
    writes: list[str] = []
    write = Run.write
    for number in range(4):

        def dies(run: Run, name: str, content: bytes, after: int = number) -> Any:
            writes.append(name)
            if len(writes) > after:
                raise KeyboardInterrupt
            return write(run, name, content)

        writes.clear()
        night_before = (verified.path / "report.html").exists()
        monkeypatch.setattr(Run, "write", dies)
        monkeypatch.setattr(reports, "mark_not_verified", lambda *_: None)  # killed: nothing more is done
        with pytest.raises(KeyboardInterrupt):
            verify_encryption.verify(verified.step("06"))
        monkeypatch.undo()
        assert night_before or number
        for name in ("report.html", "report.json"):
            text = (verified.path / name).read_text() if (verified.path / name).exists() else ""
            assert "<b>Verified.</b>" not in text
            assert '"verified": true' not in text


# Later steps -----------------------------------------------------------------------------------------------------------


def drill(walk: Walk) -> None:
    step = walk.step("80")
    asked = RecoveryDrillInputs.check({"recovery_private_keys": [walk.private(0)]})
    recovery_drill.apply(step, recovery_drill.plan(step, asked))
    recovery_drill.verify(step)


def test_later_steps_write_the_report_again_with_their_results(verified: Walk) -> None:
    """80, then 06 again, then 90: each result is in the report, with what was verified before it."""
    drill(verified)
    found, page = report(verified), (verified.path / "report.html").read_text()
    assert found["verified"]
    assert ["80_recovery_drill"] == [one["step"] for one in found["other_steps"]]
    assert "Result of step 80_recovery_drill" in page
    assert "Since then, step 80_recovery_drill" in page
    assert "the master password is managed by RDS" in page
    found = night(verified)
    assert ["80_recovery_drill"] == [one["step"] for one in found["other_steps"]]
    assert not [line for line in found["not_looked_at"] if "step 80 does that" in line]
    step = verified.step("90")
    asked = CleanUpInputs.check({"confirm_db_cluster_identifier": "aurora-byok"})
    clean_up.apply(step, clean_up.plan(step, asked))
    clean_up.verify(step)
    found = report(verified)
    assert ["80_recovery_drill", "90_clean_up"] == [one["step"] for one in found["other_steps"]]
    assert all(one["passed"] for one in found["other_steps"])
    assert "Since then, step 90_clean_up" in (verified.path / "report.html").read_text()


def test_a_later_step_that_fails_takes_the_verdict_back_until_06_verifies_again(verified: Walk) -> None:
    """A drill after which the key cannot be used is in the report, red, and no older "Verified" stands."""
    drill(verified)
    verified.client().disable_key(KeyId=verified.key_id)
    with pytest.raises(VerificationFailed):
        recovery_drill.verify(verified.step("80"))
    found, page = report(verified), (verified.path / "report.html").read_text()
    assert not found["verified"]
    assert "<b>Verified.</b>" not in page
    assert "80_recovery_drill failed after the verification" in page
    verified.client().enable_key(KeyId=verified.key_id)
    assert night(verified)["verified"]
    assert "<b>Verified.</b>" in (verified.path / "report.html").read_text()
