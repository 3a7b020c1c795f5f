"""The guards of docs/deletion.md: each statement, as printed, stops what it names and nothing else."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kms_support import ACCOUNT, ADMIN, advance, connect, import_material, reset, sandbox

PAGE = (Path(__file__).parent.parent / "docs" / "deletion.md").read_text(encoding="utf-8")
GUARDS = {one["Sid"]: one for one in map(json.loads, re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))}
ROOT = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "kms:*", "Resource": "*"}
DENIED = "AccessDeniedException"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with sandbox() as url:
        yield url


class Guarded:
    """A key with material under one guard; `role` may stand for the one of emergencies."""

    def __init__(self, url: str, guard: str, role: str = "BreakGlass", **changed: Any) -> None:
        reset(url)
        self.kms = connect(url)
        text = json.dumps(GUARDS[guard]).replace("role/BreakGlass", f"role/{role}")
        policy = json.dumps({"Version": "2012-10-17", "Statement": [ROOT, {**json.loads(text), **changed}]})
        key = self.kms.create_key(Origin="EXTERNAL", Policy=policy, BypassPolicyLockoutSafetyCheck=True)
        self.key_id = key["KeyMetadata"]["KeyId"]
        import_material(self.kms, self.key_id, os.urandom(32))

    def answer(self, operation: str, **given: Any) -> str:
        """Return the error code of a call, or "" if it is allowed."""
        try:
            getattr(self.kms, operation)(KeyId=self.key_id, **given)
        except self.kms.exceptions.ClientError as error:
            return str(error.response["Error"]["Code"])
        return ""


def test_the_page_has_the_three_guards() -> None:
    assert ["KeepWhileUsed", "KeepTheWholeWaitingPeriod", "OnlyInAnEmergency"] == list(GUARDS)
    assert ADMIN.startswith(f"arn:aws:iam::{ACCOUNT}:role/")


def test_a_key_in_use_is_neither_disabled_nor_scheduled_until_a_year_without_use(endpoint: str) -> None:
    """A new key counts as used today; a use starts the count again; whole days, floored."""
    guarded = Guarded(endpoint, "KeepWhileUsed")
    assert DENIED == guarded.answer("schedule_key_deletion")
    assert "" == guarded.answer("update_key_description", Description="others are not concerned")
    advance(endpoint, days=300)
    assert "" == guarded.answer("encrypt", Plaintext=b"x")
    advance(endpoint, days=365, hours=23)
    assert DENIED == guarded.answer("disable_key")
    advance(endpoint, hours=2)
    assert "" == guarded.answer("disable_key")


def test_the_guard_of_use_does_not_protect_the_material(endpoint: str) -> None:
    """AWS evaluates the condition key for two operations only, so that the third guard is needed."""
    guarded = Guarded(endpoint, "KeepWhileUsed", Action=["kms:DisableKey", "kms:DeleteImportedKeyMaterial"])
    assert [DENIED, ""] == [guarded.answer(one) for one in ("disable_key", "delete_imported_key_material")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({"PendingWindowInDays": 29}, DENIED, id="29"),
        pytest.param({"PendingWindowInDays": 30}, "", id="30"),
        pytest.param({}, "", id="default"),
    ],
)
def test_a_short_waiting_period_is_denied(endpoint: str, given: dict[str, Any], expected: str) -> None:
    """And the default, 30 days, is not."""
    assert expected == Guarded(endpoint, "KeepTheWholeWaitingPeriod").answer("schedule_key_deletion", **given)


@pytest.mark.parametrize(
    ("role", "expected"), [pytest.param("BreakGlass", DENIED, id="another"), pytest.param("Admin", "", id="itself")]
)
def test_only_the_role_of_emergencies_deletes_material_and_key(endpoint: str, role: str, expected: str) -> None:
    """The caller is the role Admin: denied while the guard names another role, allowed when it names this one."""
    guarded = Guarded(endpoint, "OnlyInAnEmergency", role)
    assert "" == guarded.answer("encrypt", Plaintext=b"x")
    assert [expected] * 2 == [guarded.answer(one) for one in ("delete_imported_key_material", "schedule_key_deletion")]
