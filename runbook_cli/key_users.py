"""`runbook key-users`: everything that still needs a KMS key."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runbook_cli.common import echo, echo_lines, report_errors, runs_dir_option
from runbook_lib.errors import InputError, KeyNotUsable, SandboxUnavailable
from runbook_lib.run.paths import runs_folder, shown

if TYPE_CHECKING:
    from runbook_lib.aws.session import Session

NOTHING, IN_USE, NOT_ALL_SEEN = 0, 3, 4
_ARN = re.compile(r"arn:[a-z-]+:kms:([a-z0-9-]+):(\d{12}):(key|alias)/.+")


@click.command("key-users")
@click.argument("key")
@click.option("--region", default="", help="Region of the key; default: that of its ARN, or of your AWS configuration.")
@click.option("--target", type=click.Choice(["sandbox", "aws"]), default="sandbox", show_default=True,
              help="sandbox: a key in the running sandbox; aws: a key in your AWS account, with reads only.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@runs_dir_option
@report_errors
def key_users(key: str, region: str, target: str, as_json: bool, runs_dir: Path | None) -> None:
    """List everything that still needs KEY: a key id, ARN or alias.

    Exits with 0 if nothing does, 3 if something does, 4 if something could not be looked at.
    """
    from runbook_lib.aws import kms
    from runbook_lib.aws.key_users import last_use, who_uses
    from runbook_lib.tables import Table

    session = _session(key, region, target, runs_folder(runs_dir))
    metadata = kms.describe(session, key)
    if metadata is None:
        raise KeyNotUsable(
            f"key {key} does not exist in {session.region} of account {session.account_id}; check the Region"
        )
    found = who_uses(session, metadata["Arn"])
    code = IN_USE if found.users else NOT_ALL_SEEN if found.unread else NOTHING
    if as_json:
        echo_lines(json.dumps({
            "format": 1, "key_arn": metadata["Arn"], "key_state": metadata["KeyState"],
            "last_used": last_use(session, metadata["Arn"]),
            "users": [{"kind": user.kind, "name": user.name, "deleted_with": user.deleted_with} for user in found.users],
            "not_looked_at": [one._asdict() for one in found.unread],
        }, indent=1))  # fmt: skip
        sys.exit(code)
    echo(f"{metadata['Arn']}, {metadata['KeyState']}")
    if found.users:
        rows = [(user.kind, user.name, user.deleted_with) for user in found.users]
        echo_lines(repr(Table("What needs the key", ("kind", "name", "deleted with"), rows)))
    if found.unread:
        rows = [(one.what, one.permission, one.reason) for one in found.unread]
        echo_lines(repr(Table("Not looked at", ("what", "needs permission", "reason"), rows)))
    echo(
        f"Last use of the key: {last_use(session, metadata['Arn'])} (a hint: a cluster can run for months between uses)"
    )
    echo({
        NOTHING: "Nothing that AWS lists needs the key. Objects in S3 and copies in other accounts are not listed anywhere.",
        IN_USE: "The key is in use: do not delete it, or its key material.",
        NOT_ALL_SEEN: "Nothing was found, but not everything was looked at: do not delete the key yet.",
    }[code])  # fmt: skip
    sys.exit(code)


def _session(key: str, region: str, target: str, folder: Path) -> Session:
    """Return a session for the account and Region of the key. Raises `SandboxUnavailable` when no sandbox runs."""
    from runbook_lib.aws import sandbox_process
    from runbook_lib.aws.sandbox_accounts import DEFAULT_ACCOUNT
    from runbook_lib.aws.session import Session, sandbox_session
    from runbook_lib.inputs.start import StartInputs

    named = _ARN.fullmatch(key)
    if named and region and named[1] != region:
        raise KeyNotUsable(f"{key} is in {named[1]}, not in {region}; leave --region out")
    region, account = (named[1], named[2]) if named else (region, "")
    if target == "aws":
        return Session(target="aws", region=region or _configured_region(), account_id=account)
    sandbox = sandbox_process.find(folder)
    if sandbox is None:
        raise SandboxUnavailable(
            f"no sandbox is running for {shown(folder)}, so it has no keys; for a key in your AWS account add --target aws"
        )
    region = region or StartInputs.model_fields["region"].default
    return sandbox_session(sandbox, region=region, account_id=account or DEFAULT_ACCOUNT)


def _configured_region() -> str:
    import boto3

    configured = boto3.Session().region_name
    if not configured:
        raise InputError([("--region", "your AWS configuration names no Region; add --region, or give the key's ARN")])
    return str(configured)
