"""A scheduled year in the sandbox: what the daily check finds, what the alarms tell, and what the operator does about it.

One process, library calls, the sandbox's clock. The README shows the same table.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from walk import Walk

from runbook_lib.aws import sandbox_process
from runbook_lib.checks import Checks
from runbook_lib.inputs.kms import RotateKeyMaterialInputs
from runbook_lib.inputs.rds import VerifyEncryptionInputs
from runbook_lib.inputs.recovery import RecoverInputs
from runbook_lib.inputs.watch import WatchKeyInputs
from runbook_lib.steps import recover, rotate_key_material, verify_encryption, watch_key
from runbook_lib.steps.evidence import gather

pytestmark = [pytest.mark.slow, pytest.mark.by_command]
FIRST, DAYS = datetime(2027, 1, 1, 3, 15, tzinfo=UTC), 365
README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


class Year:
    """One run, its nightly check at 03:15, and the table of the days on which something happened."""

    def __init__(self, walk: Walk) -> None:
        self.walk, self.day, self.seen, self.before = walk, FIRST, 0, "passes"
        self.rows: list[tuple[str, str, str, str]] = []

    def set_clock(self) -> None:
        body = {"now": self.day.isoformat()}
        sandbox_process.call(self.walk.endpoint, "/runbook/clock", body=body, method="POST")

    def begin(self) -> None:
        self.set_clock()
        self.walk.start().pair().encrypt()
        self.walk.bring_in(expiration_model="KEY_MATERIAL_EXPIRES", valid_to="2027-06-30T00:00:00+00:00")
        self.walk.cluster()
        step, asked = (
            self.walk.step("06"),
            VerifyEncryptionInputs.check({"rotate_every_days": 180, "read_cloudtrail": False}),
        )
        verify_encryption.apply(step, verify_encryption.plan(step, asked))
        verify_encryption.verify(step)
        self.watch()

    def watch(self) -> None:
        step = self.walk.step("21")
        watch_key.apply(step, watch_key.plan(step, WatchKeyInputs.check({})))
        watch_key.verify(step)

    def extend(self, until: str) -> None:
        step = self.walk.step("04")
        recover.apply(step, recover.plan(step, RecoverInputs.check({"run_id": "demo", "valid_to": until})))
        self.check()  # until the cluster, which may be starting, is available

    def rotate(self) -> None:
        step = self.walk.step("20")
        rotate_key_material.apply(step, rotate_key_material.plan(step, RotateKeyMaterialInputs.check({})))
        rotate_key_material.verify(step)

    def check(self) -> Checks:
        return gather(self.walk.step("06"))

    def told(self) -> str:
        """Return what arrived at the topic since the last night, in words."""
        messages = sandbox_process.call(self.walk.endpoint, "/runbook/messages")["messages"]
        new, self.seen = messages[self.seen :], len(messages)
        assert all(not one["problem"] for one in new)
        return ", ".join(_words(one) for one in new)

    def live(self, did: str) -> None:
        """Let the night come: check, and note the day if anything is new."""
        told = self.told()
        failed = [check for check in self.check().rows if not check.passed]
        verdict = _first("fails" if failed else "passes", failed)
        if did or told or verdict != self.before:
            self.rows.append((f"{self.day:%Y-%m-%d}", told, verdict, did))
        self.before = verdict


def _words(message: dict[str, Any]) -> str:
    if message["subject"].startswith("ALARM"):
        return f"alarm: {'30' if '-30-' in message['subject'] else '7'} days left"
    return (
        "test message" if message["subject"].startswith("Test") else message["message"].strip('"').partition(" at ")[0]
    )


def _first(verdict: str, failed: list[Any]) -> str:
    if not failed:
        return verdict
    claims = " ".join(check.claim for check in failed)
    for part, words in (
        ("is available", "the key is PendingImport, the cluster has stopped"),
        ("can be used", "the key is PendingImport"), ("expire soon", "a material expires within 7 days"),
        ("rotated recently", "a rotation is due"),
    ):  # fmt: skip
        if part in claims:
            return f"{verdict}: {words}"
    return f"{verdict}: {claims}"


ACTS = {
    "2027-06-24": ("extended to 2027-12-15", lambda year: year.extend("2027-12-15T00:00:00+00:00")),
    "2027-07-02": ("rotated", lambda year: year.rotate()),
    "2027-12-15": ("nothing had been done in time", lambda year: None),
    "2027-12-18": (
        "recovered until 2028-06-01, the cluster is started",
        lambda year: year.extend("2028-06-01T00:00:00+00:00"),
    ),
    "2027-12-31": ("rotated", lambda year: year.rotate()),
}


def test_a_year_of_nights(walk: Walk) -> None:
    """Every night is checked; the days on which something happens are those of the README, in its words."""
    year = Year(walk)
    year.begin()
    year.live("created, imported, verified, watched")
    for number in range(1, DAYS):
        year.day = FIRST + timedelta(days=number)
        year.set_clock()
        did, act = ACTS.get(f"{year.day:%Y-%m-%d}", ("", None))
        if act is not None:
            act(year)
        year.live(did)
    table = ["| day | message from AWS | the nightly check | what the operator did |", "| --- | --- | --- | --- |"]
    table += [f"| {' | '.join(row)} |" for row in year.rows]
    assert "\n".join(table) in README, json.dumps(table, indent=1, ensure_ascii=False)
