"""The commands `runbook wrap` and `runbook recover`: step 3 without network, and the original back into its key."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from runbook_cli.common import print_line, report_errors, runs_dir_option
from runbook_lib import errors

_SOURCES = ("generate", "file", "recovery", "pkcs11")
_path = click.Path(dir_okay=False)


@click.command()
@click.argument("bundle", type=_path)
@click.option("--recovery-public-key", "recovery_public_keys", type=_path, multiple=True, metavar="PEM",
              help="Who gets a copy; several may.")  # fmt: skip
@click.option("--custody", type=click.Choice(("recovery_key", "split", "hsm", "none")), default="recovery_key",
              show_default=True, help="split: a component to each key, all needed.")  # fmt: skip
@click.option("--source", "key_material_source", type=click.Choice(_SOURCES), default="generate", show_default=True)
@click.option("--file", "key_material_file", type=_path, default="", help="For the sources file and recovery.")
@click.option("--encoding", "key_material_encoding", type=click.Choice(("binary", "hex", "base64")), default="binary")
@click.option("--recovery-private-key", type=_path, default="", help="For the source recovery.")
@click.option("--password-from", "recovery_password_from", default="", metavar="ORIGIN",
              help="Of that key: prompt, env:NAME or file:PATH.")  # fmt: skip
@click.option("--pkcs11-module", type=_path, default="", help="For the source pkcs11.")
@click.option("--pkcs11-token-label", default="")
@click.option("--pkcs11-key-label", default="aurora-byok", show_default=True)
@click.option("--pin-from", "pkcs11_pin_from", default="prompt", show_default=True, metavar="ORIGIN")
@click.option("--accept-no-custody", is_flag=True, help="With --custody none: I keep the original elsewhere.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("wrapped"), show_default=True, help="A new folder."
)
@report_errors
def wrap(bundle: str, out: Path, recovery_public_keys: tuple[str, ...], **choices: Any) -> None:
    """Encrypt key material for BUNDLE (hand-over.zip of step 02), without AWS and network.

    Leaves EncryptedKeyMaterial.bin, the custody files and hand-back.zip, which goes back to the operator.
    """
    from runbook_lib.inputs.kms import EncryptKeyMaterialInputs
    from runbook_lib.material.hand_over import HAND_BACK
    from runbook_lib.material.wrap_offline import wrap_bundle

    inputs = EncryptKeyMaterialInputs.check({**choices, "recovery_public_keys": list(recovery_public_keys)})
    made = wrap_bundle(bundle, inputs.request(), folder=out)
    record = made.record
    print_line(f"for {made.key_arn}, wrapping key SHA-256 {made.wrapping_public_key_sha256}")
    print_line(f"key check value {record['key_check_value'] or 'unknown here'}, custody {record['custody']}")
    for holder in record["holders"]:
        component = f", check value {holder['component_check_value']}" if "component_check_value" in holder else ""
        print_line(f"  {holder['file']}: for recovery key {holder['recovery_key_sha256'][:16]}{component}")
    print_line(
        f"bring back {out}/{HAND_BACK}: key_material_source wrapped, key_material_file {HAND_BACK}, custody none"
    )


@click.command()
@click.argument("run_id")
@click.option("--private-key", "recovery_private_keys", type=_path, multiple=True, metavar="PEM",
              help="A recovery private key: one for a copy, each custodian's for components.")  # fmt: skip
@click.option(
    "--password-from",
    "recovery_password_from",
    default="",
    metavar="ORIGIN",
    help="Of these keys: prompt, env:NAME or file:PATH.",
)
@click.option("--component", "components", type=_path, multiple=True, help="A component that its custodian opened.")
@click.option("--file", "material_file", type=_path, default="", help="The original itself: 32 bytes.")
@click.option("--encoding", type=click.Choice(("binary", "hex", "base64")), default="binary", help="Of these files.")
@click.option("--pkcs11-module", type=_path, default="", help="Where it is another than step 03 was given.")
@click.option("--pin-from", default="", metavar="ORIGIN", help="Of the token: prompt, env:NAME or file:PATH.")
@click.option("--valid-to", default="", help="When it shall expire, ISO 8601. Default: as it was imported before.")
@click.option("--does-not-expire", is_flag=True)
@click.option("--check", is_flag=True, help="Only see whether the original opens; AWS is not called.")
@click.option("--hand-over", is_flag=True, help="Make a bundle for the machine where the original is.")
@click.option("--encrypted", type=_path, default="", help="What came back: hand-back.zip or EncryptedKeyMaterial.bin.")
@runs_dir_option
@report_errors
def recover(run_id: str, runs_dir: Path | None, check: bool, hand_over: bool, encrypted: str, **given: Any) -> None:
    """Bring the original material of RUN_ID back into its key: after expiry or deletion, or before.

    Opens it in memory from what custody kept, holds it against the recorded key check value, and imports it as the
    material that the key had: KMS takes no other.
    """
    from runbook_lib.inputs.kms import RecoverInputs
    from runbook_lib.material.open_recovery_copy import check_opens
    from runbook_lib.run.paths import runs_folder, shown
    from runbook_lib.run.records import MaterialRecord
    from runbook_lib.run.steps import IMPORT_KEY_MATERIAL
    from runbook_lib.steps import recover as library
    from runbook_lib.steps.open_step import open_step

    if check + hand_over + bool(encrypted) > 1:
        raise errors.InputError([("--check", "goes with neither --hand-over nor --encrypted; give one of them")])
    lists = {name: list(given.pop(name)) for name in ("recovery_private_keys", "components")}
    asked = RecoverInputs.check({"run_id": run_id, "encrypted": encrypted, **given, **lists})
    step = open_step(IMPORT_KEY_MATERIAL, run_id=run_id, runs_dir=runs_folder(runs_dir))
    custody = MaterialRecord.so_far(step.run).custody
    if check:
        value = rehearse(record, read=step.run.read, brought=brought, made_with=made_with)
        print_line(
            f"the original opens (custody {record['custody']}), key check value {value or 'unknown here'} as recorded"
        )
        return
    plan = library.plan(step, asked)
    if hand_over:
        with step.run.locked(what="runbook recover"):
            path = library.prepare_hand_over(step)
            print_line(f"bring {shown(path)} to where the original is: runbook wrap {path.name} --source recovery …")
            print_line(f"then: runbook recover {run_id} --encrypted hand-back.zip")
            return
        if encrypted:
            content, token = library.take_back(step, encrypted)
        else:
            wrapping, token, _ = library.fetch_pair(step)
            content, value = wrap_original(record, wrapping, read=step.run.read, brought=brought, made_with=made_with)
            print_line(f"the original opens, key check value {value or 'unknown here'} as recorded")
        print_line(repr(library.as_plan(changes)))
        state = library.prove(step, changes[1], encrypted=content, token=token)
        print_line(f"proved: KMS takes it as the material that the key had; the key is {state}")
        library.forget_hand_over(step.run)
        if started := library.start_cluster(step, changes):
            print_line(f"cluster {started} is starting; see it through with: runbook run --run-id {run_id}")
    sys.stdout.flush()
