"""What a report says about itself: who ran the run and with what, its parameters and files, and what was not verified.

Reads the run folder, this machine and the key policy. User and host name are in the run's report only, in no output of a cell.
"""

from __future__ import annotations

import json
import os
import platform
import pwd
import shutil
import socket
import subprocess
from datetime import datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from runbook_lib.aws.answers import REFUSALS, refusal_text
from runbook_lib.aws.session import Session
from runbook_lib.checks import Checks
from runbook_lib.errors import ArtefactMissing, PolicyInvalid
from runbook_lib.policies import reading
from runbook_lib.run import expiry
from runbook_lib.run.evidence_zip import contents
from runbook_lib.run.paths import checkout
from runbook_lib.run.records import KeyRecord
from runbook_lib.run.run import Run
from runbook_lib.run.steps import RECOVERY_DRILL, STEP_INPUTS, VERIFY_ENCRYPTION
from runbook_lib.steps import review_policy
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.tables import Table

_PACKAGES = {"runbook": "aurora-byok-runbook", "boto3": "boto3", "botocore": "botocore", "cryptography": "cryptography"}


NOT_OPENED = (
    "Whether the key material backups can be decrypted: their files were compared, not opened (step 80 does that)."
)


def who(session: Session) -> dict[str, str]:
    """Return the caller by AWS's answer, and the operating system's user and host name."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = f"uid {os.geteuid()}"
    return {"caller_arn": session.identity()["Arn"], "user": user, "host": socket.gethostname()}


def software() -> dict[str, str]:
    """Return the versions of what wrote the report; `git_commit` only in a checkout, with `-dirty` if it was changed."""
    from cryptography.hazmat.backends.openssl import backend

    found = {name: _version(package) for name, package in _PACKAGES.items()}
    found |= {"python": platform.python_version(), "openssl": backend.openssl_version_text()}
    return found | ({"git_commit": commit} if (commit := _commit()) else {})


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _commit() -> str:
    top, git = checkout(), shutil.which("git")
    if not (top and git and (top / ".git").exists()):
        return ""
    command = [git, "-C", str(top), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    known = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}  # no password, no credentials
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, env=known)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def parameters(run: Run) -> dict[str, dict[str, Any]]:
    """Return the parameters that each step was applied with, by step and name."""
    return {name: dict(section["inputs"]) for name, section in sorted(run.steps.items()) if section["inputs"]}


def file_digests(run: Run) -> dict[str, str]:
    """Return the SHA-256 of the custody records and of the notebooks that were executed before this step, by path."""
    try:
        found = contents(run, without="reports")
    except ArtefactMissing as error:
        return {"not all files": str(error)}
    wanted = [
        name for name in found
        if name.rpartition("/")[2].lower().startswith("custody") or name.startswith("notebooks/")
    ]  # fmt: skip
    mine = f"notebooks/{VERIFY_ENCRYPTION}"
    return {name: sha256(found[name]).hexdigest() for name in wanted if not name.startswith(mine)}


def requests(session: Session) -> list[dict[str, str]]:
    """Return the calls since `session.requests` was cleared: call, request ID, and time by AWS."""
    return [{"call": call, "request_id": request, "at": at} for call, request, at in session.requests]


def not_looked_at(run: Run, *, trail: list[dict[str, str]], snapshot: str) -> list[str]:
    """Return what the report does not prove, one sentence each."""
    lines = []
    if run.target["target"] == "sandbox":
        lines.append("AWS itself: this run used the sandbox, a simulation on one machine.")
    if not run.is_finished(RECOVERY_DRILL):
        lines.append(NOT_OPENED)
    if any(row["outcome"] != "recorded" for row in trail):
        lines.append("CloudTrail completely: the rows that are not marked recorded were not seen.")
    if not snapshot:
        lines.append("Snapshots: none was taken, and those of others were not listed.")
    return [
        *lines,
        "What else uses the KMS key: other clusters, copies in other Regions, exports; runbook key-users lists them.",
        "IAM policies: whom the account allows to use the key through the key policy's statement for the account.",
        "The data in the database, its users, and connections to it (TLS).",
        "Where the recovery private keys are kept, and who has them.",
        "Copies of the key material that somebody made outside of this runbook.",
        "Any time but the one above: what was different before, or changed later.",
    ]


def lives(run: Run, now: datetime) -> Table:
    """Return how long each key material of the key lives, oldest first, and how an expiry is extended."""
    rows = [(f"key check value {value}", words) for value, words in expiry.of_each(run, now=now)]
    if extend := expiry.how_to_extend(run):
        rows.append(("extend it, with its backup", extend))
    return Table("How long each key material lives", ("", ""), rows)


# The key policy -------------------------------------------------------------------------------------------------------


def key_policy(step: OpenStep, checks: Checks) -> dict[str, Any]:
    """Return the key policy as KMS has it, and whether it is the one that 01 put; a refusal is a failed claim."""
    key = KeyRecord.from_run(step.run)
    try:
        document = json.loads(step.client("kms").get_key_policy(KeyId=key.key_id, PolicyName="default")["Policy"])
    except REFUSALS as error:
        checks.equal("the key policy can be read", "AWS answers", refusal_text(error), source="kms:GetKeyPolicy")
        return {"key_policy": {}, "key_policy_unchanged": None}
    return {"key_policy": document, "key_policy_unchanged": reading.same(document, key.key_policy)}


def _who_may(facts: dict[str, Any]) -> list[Table]:
    try:
        table = review_policy.who_may(facts["key_policy"]) if facts["key_policy"] else Table("", ("",), [("not read",)])
    except PolicyInvalid as error:
        table = Table("", ("",), [(f"This policy cannot be put into words: {error}",)])
    words = {
        True: "the policy is the one that was reviewed in step 01",
        False: "CHANGED since it was reviewed in step 01",
    }
    caption = f"Who may do what with the key ({words.get(facts['key_policy_unchanged'], 'not read')})"
    return [Table(caption, table.columns, table.rows)]


# Tables ---------------------------------------------------------------------------------------------------------------


_LABELS = {
    "caller_arn": "caller", "account_alias": "account alias", "user": "user", "host": "host", "git_commit": "git commit",
    "python": "Python", "openssl": "OpenSSL",
}  # fmt: skip


def by_whom(facts: dict[str, Any]) -> Table:
    """Return the table of who verified, and with which software."""
    rows = [(_LABELS.get(name, name), value) for name, value in {**facts["who"], **facts["software"]}.items()]
    return Table("Who ran the verification, and with what", ("", ""), rows)


def tables(facts: dict[str, Any]) -> list[Table]:
    """Return the tables of the report about itself."""
    files = list(facts["sha256"].items()) or [("none", "")]
    asked = [(one["call"], one["request_id"], one["at"]) for one in facts["requests"]]
    return [
        *_who_may(facts),
        *_parameters(facts["parameters"]),
        Table("SHA-256 of custody records and executed notebooks", ("file", "SHA-256"), files),
        Table("Requests of this verification", ("call", "request ID", "time by AWS"), asked),
    ]


def _parameters(given: dict[str, dict[str, Any]]) -> list[Table]:
    chosen, default = [], []
    for step, values in given.items():
        fields = STEP_INPUTS[step].model_fields if step in STEP_INPUTS else {}
        same = {
            name
            for name, value in values.items()
            if name in fields and value == fields[name].get_default(call_default_factory=True)
        }
        chosen += [(step, name, _text(value)) for name, value in values.items() if name not in same]
        default.append((step, ", ".join(f"{name} {_text(values[name])}" for name in values if name in same)))
    return [
        Table("Parameters that differ from the default", ("step", "parameter", "value"), chosen),
        Table("Parameters at their default", ("step", "parameters"), default),
    ]


def _text(value: Any) -> str:
    return {"": "(empty)", "[]": "(none)", "{}": "(none)"}.get(str(value), str(value))
