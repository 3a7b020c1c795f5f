"""`runbook wrap` and `runbook recover`: offline wrapping, and importing the key material again from its backup."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from runbook_cli.common import echo_lines, print_line, report_errors, runs_dir_option
from runbook_cli.watch import follow_expiry
from runbook_lib import errors

_SOURCES = ("generate", "file", "recovery", "pkcs11")
_path = click.Path(dir_okay=False)


@click.command()
@click.argument("bundle", type=_path)
@click.option("--recovery-public-key", "recovery_public_keys", type=_path, multiple=True, metavar="PEM",
              help="Recovery public key that receives an encrypted copy; repeatable.")  # fmt: skip
@click.option("--custody", type=click.Choice(("recovery_key", "split", "hsm", "none")), default="recovery_key",
              show_default=True,
              help="recovery_key: one copy per key; split: one component per key, all required; "
              "hsm: in the token; none: no backup.")  # fmt: skip
@click.option("--source", "key_material_source", type=click.Choice(_SOURCES), default="generate", show_default=True,
              help="Where the key material comes from.")  # fmt: skip
@click.option(
    "--file", "key_material_file", type=_path, default="", help="File to read, for the sources file and recovery."
)
@click.option("--encoding", "key_material_encoding", type=click.Choice(("binary", "hex", "base64")), default="binary",
              show_default=True, help="Encoding of --file.")  # fmt: skip
@click.option(
    "--recovery-private-key", type=_path, default="", help="Private key that decrypts --file, for the source recovery."
)
@click.option("--password-from", "recovery_password_from", default="", metavar="ORIGIN",
              help="Where the password of that key comes from: prompt, env:NAME or file:PATH.")  # fmt: skip
@click.option("--pkcs11-module", type=_path, default="", help="PKCS#11 library of the token, for the source pkcs11.")
@click.option("--pkcs11-token-label", default="", help="Label of the PKCS#11 token.")
@click.option("--pkcs11-key-label", default="aurora-byok", show_default=True, help="Label of the key in the token.")
@click.option("--pin-from", "pkcs11_pin_from", default="prompt", show_default=True, metavar="ORIGIN",
              help="Where the token's PIN comes from: prompt, env:NAME or file:PATH.")  # fmt: skip
@click.option("--accept-no-custody", is_flag=True, help="With --custody none: confirm that a backup is kept elsewhere.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("wrapped"),
    show_default=True,
    help="Folder to create for the output.",
)
@report_errors
def wrap(bundle: str, out: Path, recovery_public_keys: tuple[str, ...], **choices: Any) -> None:
    """Encrypt key material offline, without AWS.

    BUNDLE is hand-over.zip from step 02. Writes EncryptedKeyMaterial.bin, the custody files, and hand-back.zip for the
    operator.
    """
    from runbook_lib.inputs.kms import EncryptKeyMaterialInputs
    from runbook_lib.material.hand_over import HAND_BACK
    from runbook_lib.material.wrap_offline import wrap_bundle

    inputs = EncryptKeyMaterialInputs.check({**choices, "recovery_public_keys": list(recovery_public_keys)})
    wrapped = wrap_bundle(bundle, inputs.request(), folder=out)
    record = wrapped.record
    print_line(f"key {wrapped.key_arn}, wrapping key SHA-256 {wrapped.wrapping_public_key_sha256}")
    print_line(f"key check value {record.key_check_value or 'unknown'}, custody {record.kind}")
    print_line(f"set fingerprint {wrapped.fingerprint}: compare it with the one that the plan of step 03 shows")
    for holder in record.holders:
        component = f", check value {holder.component_check_value}" if holder.component_check_value else ""
        print_line(f"  {holder.file}: for recovery key {holder.recovery_key_sha256[:16]}{component}")
    print_line(
        f"return {out}/{HAND_BACK} to the operator; set in step 03: key_material_source wrapped, "
        f"key_material_file {HAND_BACK}, custody none"
    )


@click.command()
@click.argument("run_id")
@click.option("--private-key", "recovery_private_keys", type=_path, multiple=True, metavar="PEM",
              help="Recovery private key: one for a copy, or one per component. Repeatable.")  # fmt: skip
@click.option(
    "--password-from",
    "recovery_password_from",
    default="",
    metavar="ORIGIN",
    help="Where the password of these keys comes from: prompt, env:NAME or file:PATH.",
)
@click.option(
    "--component",
    "components",
    type=_path,
    multiple=True,
    help="Component that its custodian has decrypted. Repeatable.",
)
@click.option("--file", "material_file", type=_path, default="", help="The key material itself, 32 bytes.")
@click.option(
    "--encoding",
    type=click.Choice(("binary", "hex", "base64")),
    default="binary",
    show_default=True,
    help="Encoding of --component and --file.",
)
@click.option(
    "--pkcs11-module", type=_path, default="", help="PKCS#11 library, if it differs from the one used in step 03."
)
@click.option(
    "--pin-from", default="", metavar="ORIGIN", help="Where the token's PIN comes from: prompt, env:NAME or file:PATH."
)
@click.option("--valid-to", default="", help="Expiry time, ISO 8601. Default: that of the previous import.")
@click.option("--material", default="", metavar="KEY_CHECK_VALUE",
              help="Which key material, if the key was rotated. Default: every one that is missing.")  # fmt: skip
@click.option("--does-not-expire", is_flag=True, help="Import the key material without an expiry time.")
@click.option("--check", is_flag=True, help="Only check that the key material can be restored; call no AWS API.")
@click.option("--hand-over", is_flag=True, help="Write a bundle for the machine that holds the key material.")
@click.option(
    "--encrypted",
    type=_path,
    default="",
    help="Import the result of that machine: hand-back.zip or EncryptedKeyMaterial.bin.",
)
@runs_dir_option
@report_errors
def recover(run_id: str, runs_dir: Path | None, check: bool, hand_over: bool, encrypted: str, **given: Any) -> None:
    """Import the key material of a run again.

    Restores the key material of RUN_ID from its backup in memory, compares it with the recorded key check value, and
    imports it into the KMS key of the run. KMS accepts only the same key material. Works before and after the key
    material expired or was deleted.
    """
    from runbook_lib.inputs.recovery import RecoverInputs
    from runbook_lib.material.open_recovery_copy import check_opens, differs
    from runbook_lib.run.materials import all_materials
    from runbook_lib.run.paths import runs_folder, shown
    from runbook_lib.run.records import ImportRecord, MaterialRecord
    from runbook_lib.run.steps import IMPORT_KEY_MATERIAL
    from runbook_lib.steps import recover as library
    from runbook_lib.steps.open_step import open_step

    if check + hand_over + bool(encrypted) > 1:
        raise errors.InputError([("--check, --hand-over, --encrypted", "exclude each other; give one of them")])
    lists = {name: list(given.pop(name)) for name in ("recovery_private_keys", "components")}
    asked = RecoverInputs.check({"run_id": run_id, "encrypted": encrypted, **given, **lists})
    step = open_step(IMPORT_KEY_MATERIAL, run_id=run_id, runs_dir=runs_folder(runs_dir))
    custody = MaterialRecord.so_far(step.run).custody
    if check:
        for one in all_materials(step.run)[1:]:
            found = check_opens(one.custody, read=one.reader(step.run), sources=library.sources(step.run, asked, one))
            if hint := differs(one.custody, found):
                raise errors.KeyMaterialMismatch(
                    f"key material of {one.folder} was restored, but with {hint}: only KMS can tell"
                )
            print_line(f"the key material of {one.folder} can be restored, {_compared(found, '')}")
        value = check_opens(custody, read=step.run.read, sources=library.sources(step.run, asked))
        if hint := differs(custody, value):
            raise errors.KeyMaterialMismatch(
                f"key material was restored (custody {custody.kind}), but with {hint}; the record is not proof: only KMS can "
                f"tell, when it is imported again: runbook recover {run_id}"
            )
        restored = f"the key material can be restored (custody {custody.kind}), {_compared(value, '')}"
        if not ImportRecord.so_far(step.run).key_material_id:
            raise errors.StepMissing(
                f"{restored}; but this run folder has no record that it was imported, so that the KMS key may hold other "
                f"material: run notebooks/{IMPORT_KEY_MATERIAL}.ipynb, or let KMS compare it: runbook recover {run_id}"
            )
        print_line(restored)
        return
    plan = library.plan(step, asked)
    if hand_over:
        with step.run.locked(what="runbook recover"):
            path = library.prepare_hand_over(step)
        print_line(
            f"take {shown(path)} to the machine that holds the key material and run: "
            f"runbook wrap {path.name} --source recovery …"
        )
        print_line(f"then: runbook recover {run_id} --encrypted hand-back.zip")
        return
    echo_lines(repr(plan))
    recovered = library.apply(step, plan)
    for value, hint in recovered.restored:
        if value:
            print_line(f"the key material was restored, {_compared(value, hint)}")
    print_line(f"verified: KMS accepted it as the same key material; the key is {recovered.key_state}")
    library.forget_hand_over(step.run)
    for change in plan.changes:
        if change.resource == library.CLUSTER:
            print_line(f"cluster {change.name} is starting; verify it with: runbook run --run-id {run_id}")
    follow_expiry(run_id, runs_folder(runs_dir))
    sys.stdout.flush()


def _compared(key_check_value: str, hint: str) -> str:
    """Return the words for a key check value; empty: not known to this machine. `hint`: how it differs from the record."""
    if hint:
        return f"{hint}: the record is wrong, as KMS accepted the material"
    return f"key check value {key_check_value} as recorded" if key_check_value else "key check value unknown"
