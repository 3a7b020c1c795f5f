"""`runbook evidence`: pack what an auditor needs of a run, with the means to check it."""

from __future__ import annotations

from pathlib import Path

import click

from runbook_cli.common import echo, report_errors, runs_dir_option
from runbook_lib.run.paths import runs_folder, shown


@click.command()
@click.argument("run_id")
@click.option("--sign", "private_key", type=click.Path(dir_okay=False, path_type=Path), metavar="PRIVATE_KEY.pem",
              help="Sign the manifest with this RSA or EC private key.")  # fmt: skip
@click.option("--password-from", default="", metavar="ORIGIN",
              help="Where the password of that key comes from: prompt, env:NAME or file:PATH.")  # fmt: skip
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.zip",
              help="File to create. Default: RUN_ID-evidence.zip in the current folder.")  # fmt: skip
@runs_dir_option
@report_errors
def evidence(
    run_id: str, private_key: Path | None, password_from: str, out: Path | None, runs_dir: Path | None
) -> None:
    """Pack the evidence of RUN_ID as a zip: reports, executed notebooks, state.json and custody record.

    It has no key material, encrypted or not. A manifest lists the SHA-256 of each file; --sign adds a signature.
    """
    from runbook_lib.errors import InputError
    from runbook_lib.material.secret_sources import names_source
    from runbook_lib.run import evidence_zip
    from runbook_lib.run.run import Run

    if not names_source(password_from):
        raise InputError([("--password-from", "write prompt, env:NAME or file:PATH, never the password itself")])
    if password_from and private_key is None:
        raise InputError([("--password-from", "is the password of the key of --sign; give --sign PRIVATE_KEY.pem too")])
    run = Run.open(run_id, runs_dir=runs_folder(runs_dir))
    packed = evidence_zip.pack(
        run, out or Path(f"{run.run_id}-evidence.zip"), private_key=private_key, password_from=password_from
    )
    echo(f"{shown(packed.path.absolute())}: {len(packed.names)} files of run {run.run_id}, SHA-256 {packed.sha256}")
    if "report.html" not in packed.names:
        echo("It has no report: the run was not verified yet.")
    if packed.signed_with:
        echo(f"Signed with the key whose public key has SHA-256 {packed.signed_with}")
        echo(
            "Give the receiver that SHA-256 over a separate channel; README.txt in the zip has the commands to check it."
        )
    else:
        echo(
            "Not signed. Give the receiver the SHA-256 of the zip over a separate channel; README.txt tells what to check."
        )
