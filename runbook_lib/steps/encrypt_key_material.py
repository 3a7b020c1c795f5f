"""Step 03: one set of encrypted key material and custody of the original, for the run's wrapping key; without AWS.

Where material comes from is `sources`, what belongs together is `material_set`.
"""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

from runbook_lib.checks import Checks
from runbook_lib.errors import (
    ArtefactMissing,
    ArtefactsMismatch,
    CustodyMissing,
    KeyMaterialEncoded,
    KeyMaterialFileUnsafe,
    KeyMaterialLength,
    PlaintextRefused,
    PlanOutdated,
    StepMissing,
)
from runbook_lib.files import aside, destroy, holds, is_the_very, utc_stamp
from runbook_lib.inputs.kms import EncryptKeyMaterialInputs
from runbook_lib.material import key_material, recovery_copies
from runbook_lib.material.custody_txt import NAME as README
from runbook_lib.material.material_set import CUSTODY, ENCRYPTED, Wrapping, read_set, strangers, write_set
from runbook_lib.material.sources import make_set, read_public
from runbook_lib.plan import Change, Plan
from runbook_lib.run.run import Run
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.tables import Text

TRAINING = "TRAINING-recovery-{}-key{}.pem"
PAIR_STEP, IMPORT_STEP = "02_get_parameters_for_import", "04_import_key_material"
_SOURCES = {
    "generate": "256 bits from this machine's random source, in memory only",
    "file": "32 bytes from {0.key_material_file} ({0.key_material_encoding})",
    "wrapped": "{0.key_material_file}, wrapped elsewhere: of bare EncryptedKeyMaterial.bin only the size can be checked",
    "recovery": "opened again from {0.key_material_file}",
    "pkcs11": "key {0.pkcs11_key_label!r} of token {0.pkcs11_token_label!r}, made there if it is not; never outside in clear",
}

_STRANGER = "lies in the run's folder, and is not as this run wrote it; move it to a place of its own"
_DESTROYED = "destroyed "


def plan_encrypt_key_material(step: OpenStep, inputs: EncryptKeyMaterialInputs) -> Plan:
    """Plan to make a set, or to keep the one that belongs to the present wrapping key; calls nothing.

    New material supersedes old, custody included, as long as nothing was imported; after that it is refused: what
    the key once had only `runbook recover` brings back. Raises `CustodyMissing`, `PlaintextRefused`.
    """
    pair = step.run.record(PAIR_STEP)
    made = step.made()
    if made.get("set") and (kept := _kept(step, pair, made, inputs)) is not None:
        return step.plan(inputs, [kept])
    changes = []
    if pair.get("key_material_id") and inputs.key_material_source == "generate":
        why = f"the key had material (KeyMaterialId {pair['key_material_id'][:16]}), KMS takes no other; bring that"
        changes.append(Change("refuse", "key material", "generate", f"{why}: source recovery, file, wrapped or pkcs11"))
    ours = _files_of(step.run, made)
    changes += [Change("refuse", "file", name, _STRANGER) for name in strangers(step.run.path, ours)]
    if made.get("set"):
        why = "nothing was imported from it; its copies go with it"
        changes.append(Change("delete", "superseded set", made["set"][:8], why))
    words = _SOURCES[inputs.key_material_source].format(inputs)
    changes.append(Change("create", "key material", inputs.key_material_source, words))
    algorithm = pair["request"]["WrappingAlgorithm"]
    if inputs.key_material_source == "pkcs11":
        changes.append(_token(inputs, algorithm))
    changes.append(Change("create", ENCRYPTED, ENCRYPTED, f"under {pair['request']['WrappingKeySpec']}, {algorithm}"))
    changes += kept_aside(step.run, [name for name in (ENCRYPTED, README, CUSTODY) if name not in ours])
    return step.plan(inputs, [*changes, *_custody_changes(step, inputs)])


def kept_aside(run: Run, names: list[str]) -> list[Change]:
    """Return a row for each of these files that is there: not this run's, and renamed before its name is taken."""
    there = [run.path / name for name in names if (run.path / name).is_file() and not (run.path / name).is_symlink()]
    why = "is not as this run wrote it; kept as {}"
    return [Change("keep", "file", path.name, why.format(aside(path).name)) for path in there]


def _written(made: dict[str, Any]) -> list[tuple[str, str]]:
    """Return name and SHA-256 of each public file that 03 wrote, or was writing when it broke off."""
    return [*made.get("files", {}).items(), (CUSTODY, made.get("set", "")), *map(tuple, made.get("writing", []))]


def _files_of(run: Run, made: dict[str, Any]) -> list[str]:
    """Return the names of the files in the run's folder that are proved to be what 03 wrote."""
    found = {name for name, digest in _written(made) if holds(run.path / name, digest)}
    return sorted(found | ({recovery_copies.PLAINTEXT} if _is_ours_in_clear(run, made) else set()))


def _is_ours_in_clear(run: Run, made: dict[str, Any]) -> bool:
    """Return whether PlaintextKeyMaterial.bin is the very file that 03 wrote: by identity, then by key check value."""
    path, noted = run.path / recovery_copies.PLAINTEXT, made.get("in_clear", {})
    if not noted or not is_the_very(path, noted["file"]):
        return False
    try:
        with key_material.KeyMaterial.from_file(path) as material:
            return bool(material.key_check_value == noted["key_check_value"])
    except (KeyMaterialFileUnsafe, KeyMaterialLength, KeyMaterialEncoded):
        return False


def _token(inputs: EncryptKeyMaterialInputs, algorithm: str) -> Change:
    """Return the row that says what the HSM can do; a refusal when that is not what 02 asked for."""
    from runbook_lib.material import pkcs11

    label, can = inputs.pkcs11_token_label, pkcs11.capabilities(inputs.request().token)
    if can is None:
        return Change("keep", "HSM token", label, "tells what it can do after login only")
    if algorithm not in can:
        return Change("refuse", "HSM token", label, pkcs11.incapable(label, can, algorithm))
    return Change("keep", "HSM token", label, f"wraps with {' and '.join(can)}")


def _kept(
    step: OpenStep, pair: dict[str, Any], made: dict[str, Any], inputs: EncryptKeyMaterialInputs
) -> Change | None:
    """Return the row that keeps the set in the folder, or refuses another; None when a new set is to be made."""
    name = f"key check value {made['key_check_value'] or 'unknown here'}"
    # 02 fetches another pair only while the key has no material, and notes whether it ever had any. If not, an import
    # with an older pair did not happen.
    of_this_pair = made["wrapping_public_key_sha256"] == pair["sha256"]["WrappingPublicKey.bin"]
    before, asked = made.get("made_with", {}), inputs.model_dump()
    unclear = step.run.was_sent(IMPORT_STEP, "kms:ImportKeyMaterial")
    if step.run.made(IMPORT_STEP).get("key_material_id") or (
        unclear and pair.get("key_material_id") and not of_this_pair
    ):
        bring_back = f"bring the same material back with: runbook recover {step.run.run_id}"
        if not of_this_pair:
            return Change(
                "refuse", "key material", name, f"the key had this material, other is refused by KMS; {bring_back}"
            )
        if differ := sorted(field for field in asked if field in before and asked[field] != before[field]):
            why = f"it is imported, and other choices come too late ({', '.join(differ)}); {bring_back}, or start a new run"
            return Change("refuse", "key material", name, why)
        return Change("keep", "key material", name, "it is imported")
    if of_this_pair and unclear:
        if differ := sorted(field for field in asked if field in before and asked[field] != before[field]):
            why = f"its import may be under way, and other choices come too late ({', '.join(differ)}): finish 04"
            return Change("refuse", "key material", name, why)
        return Change("keep", "key material", name, "its import may be under way: finish 04")
    if of_this_pair and before == asked and _is_whole(step.run, made) and _is_what_was_brought(made, inputs):
        return Change("keep", "key material", name, "it belongs to the wrapping key")
    return None


def _brought(inputs: EncryptKeyMaterialInputs) -> str:
    """Return the SHA-256 of material that was brought ready wrapped, which is public; "" for all else."""
    if inputs.key_material_source != "wrapped":
        return ""
    return key_material.fingerprint(read_public(inputs.key_material_file))


def _is_what_was_brought(made: dict[str, Any], inputs: EncryptKeyMaterialInputs) -> bool:
    """Say whether the file that the material came from, if it is still there, holds what the set was made of."""
    path = Path(inputs.key_material_file).expanduser()
    if inputs.key_material_source not in ("file", "wrapped") or not path.is_file():
        return True
    if inputs.key_material_source == "file":
        with key_material.KeyMaterial.from_file(path, encoding=inputs.key_material_encoding) as material:
            return bool(material.key_check_value == made["key_check_value"])
    return bool(made.get("brought", "") == _brought(inputs))


def _is_whole(run: Run, made: dict[str, Any]) -> bool:
    try:
        read_custody(run, made)
    except (ArtefactsMismatch, ArtefactMissing):
        return False
    return not _plaintext_missing(run, made)


def _plaintext_missing(run: Run, made: dict[str, Any]) -> bool:
    return made["custody"]["custody"] == "file" and not (run.path / recovery_copies.PLAINTEXT).is_file()


def _custody_changes(step: OpenStep, inputs: EncryptKeyMaterialInputs) -> list[Change]:
    """Return the rows that say who will keep the original; raise where nobody would, and nobody accepted it."""
    real = step.run.target["target"] == "aws"
    match inputs.custody:
        case "recovery_key":
            detail = "the material, encrypted to this recovery key"
            return [Change("create", "recovery copy", path, detail) for path in _recovery_keys(step, inputs)]
        case "split":
            keys = _recovery_keys(step, inputs)
            return [
                Change("create", "component", path, f"{number} of {len(keys)}, all needed, for this custodian")
                for number, path in enumerate(keys, 1)
            ]
        case "hsm":
            return [Change("keep", "custody", inputs.pkcs11_token_label, "the token keeps it; keep the token's backup")]
        case "file":
            if real and not inputs.accept_plaintext_file:
                raise PlaintextRefused(
                    f"custody 'file' leaves {recovery_copies.PLAINTEXT} in clear, for training only; use recovery_key, or set "
                    "accept_plaintext_file: true"
                )
            if real and not (inputs.keep_plaintext_file or inputs.accept_no_custody):
                raise CustodyMissing(
                    f"{recovery_copies.PLAINTEXT} is destroyed after the import, and nobody has the original then; set "
                    "keep_plaintext_file or accept_no_custody: true, or use recovery_key"
                )
            after = "kept after the import" if inputs.keep_plaintext_file else "destroyed after the import"
            return [
                Change(
                    "create",
                    recovery_copies.PLAINTEXT,
                    recovery_copies.PLAINTEXT,
                    f"in clear, for training only; {after}",
                )
            ]
        case _:
            detail = "you keep the original elsewhere: without it, expiry or deletion is final"
            return [Change("keep", "custody", "none", detail)]


def _recovery_keys(step: OpenStep, inputs: EncryptKeyMaterialInputs) -> list[str]:
    """Return the paths of the recovery public keys; in the sandbox, training keys that are made when none is given."""
    if inputs.recovery_public_keys:
        return list(inputs.recovery_public_keys)
    if step.run.target["target"] == "sandbox":
        number = recovery_copies.FEWEST if inputs.custody == "split" else 1
        return [
            f"{TRAINING.format('public', f'-{i}' if i > 1 else '')} (made for training)" for i in range(1, number + 1)
        ]
    raise CustodyMissing(
        "recovery_public_keys is empty with target aws; make a pair where it will be kept (openssl genrsa -aes256 -out "
        "recovery-private.pem 4096; openssl rsa -in recovery-private.pem -pubout -out recovery-public.pem) and give the path of "
        "recovery-public.pem"
    )


def _recovery_public_keys(step: OpenStep, inputs: EncryptKeyMaterialInputs) -> list[bytes]:
    """Return the recovery public keys in PEM form; training pairs are made when none is given, and kept from then on."""
    if inputs.custody not in ("recovery_key", "split"):
        return []
    if inputs.recovery_public_keys:
        return [read_public(path) for path in inputs.recovery_public_keys]
    found = []
    for shown in _recovery_keys(step, inputs):
        public = shown.partition(" ")[0]
        private = public.replace("public", "private")
        if not (step.run.path / public).is_file() and (step.run.path / private).is_file():
            step.run.write(public, recovery_copies.training_public_key(step.run.read(private)))
        if not (step.run.path / public).is_file():
            private_pem, public_pem = recovery_copies.make_training_recovery_key()
            step.run.write(private, private_pem)
            step.run.write(public, public_pem)
        found.append(step.run.read(public))
    return found


def apply_encrypt_key_material(step: OpenStep, plan: Plan, inputs: EncryptKeyMaterialInputs) -> str:
    """Make the set: material, its encryption, its custody; return the key check value.

    The same plan applied again returns what it made the first time. The material is in memory for as long as this
    takes, then overwritten as far as Python allows. Raises what `sources.make_set` raises for files, keys and tokens
    that will not do; the old set is then still there.
    """
    with step.applying(plan):
        there = step.made().get("set", "")
        given_up = any(change.name == there[:8] for change in plan.changes)
        applied_before = there and not given_up  # any other plan's set would have made this one old
        if plan.change("key material").action == "keep" or applied_before:
            return str(step.made()["key_check_value"])
        pair = step.run.record(PAIR_STEP)
        public_key = step.run.read("WrappingPublicKey.bin")
        if key_material.fingerprint(public_key) != pair["sha256"]["WrappingPublicKey.bin"]:
            raise ArtefactsMismatch(
                "WrappingPublicKey.bin is not the file that 02 left; run notebooks/02_get_parameters_for_import.ipynb again"
            )
        request = pair["request"]
        wrapping = Wrapping(public_key, request["WrappingAlgorithm"], request["WrappingKeySpec"], pair["key_arn"])
        if found := strangers(step.run.path, _files_of(step.run, step.made())):
            raise PlanOutdated(f"nothing was changed: {', '.join(found)}: {_STRANGER}; then run the plan's cell again")
        made = make_set(inputs.request(), wrapping, recovery_public_keys=_recovery_public_keys(step, inputs))
        noted = step.made()
        before = _files_of(step.run, noted)
        files = {name: key_material.fingerprint(content) for name, content in sorted(made.files.items())}
        left = [[name, digest] for name, digest in _written(noted) if name in before]
        step.run.note(step.name, writing=[*map(list, files.items()), [CUSTODY, made.fingerprint], *left])
        value = made.record["key_check_value"]
        write_set(
            made,
            folder=step.run.path,
            write=step.run.write,
            instead_of=before,
            made_in_clear=noted.get("in_clear", {}).get("file", ()),
            wrote_in_clear=lambda made: step.run.note(step.name, in_clear={"file": made, "key_check_value": value}),
        )
        step.run.note(
            step.name,
            writing=[],
            made_with=plan.inputs,
            brought=_brought(inputs),
            set=made.fingerprint,
            key_check_value=value,
            wrapping_public_key_sha256=made.wrapping_public_key_sha256,
            files=files,
            custody=dict(made.record),
        )
    return str(made.record["key_check_value"])


def plaintext_changes(run: Run) -> list[Change]:
    """Return the row of 04's plan that says what becomes of PlaintextKeyMaterial.bin: none where custody is another.

    It is deleted once, and only if it is the very file that 03 wrote: what somebody puts there is the original.
    """
    made, name = run.made("03_encrypt_key_material"), recovery_copies.PLAINTEXT
    record = made.get("custody", {})
    if record.get("custody") != "file" or record["keep_plaintext_file"] or not os.path.lexists(run.path / name):
        return []
    told = str(run.made(IMPORT_STEP).get("plaintext_file", ""))
    if told.startswith(_DESTROYED):
        return [Change("keep", name, name, f"the file that 03 wrote was {told}; this one was put there since")]
    if not _is_ours_in_clear(run, made):
        why = "is not the file that 03 wrote, or was changed since; if nobody needs it, delete it yourself"
        return [Change("keep", name, name, why)]
    why = "in clear; overwritten and deleted once the import is verified"
    return [Change("delete", name, name, why, request={"file": made["in_clear"]["file"]})]


def settle_plaintext(run: Run) -> str:
    """After the import, destroy the PlaintextKeyMaterial.bin that 04's applied plan showed; return what became of it."""
    made, imported = run.made("03_encrypt_key_material"), run.made(IMPORT_STEP)
    record, path = made.get("custody", {}), run.path / recovery_copies.PLAINTEXT
    if record.get("custody") != "file":
        return ""
    if record["keep_plaintext_file"]:
        return "kept on purpose"
    told, shown = str(imported.get("plaintext_file", "")), imported.get("plaintext_to_delete", [])
    if told.startswith(_DESTROYED):
        return told
    if not os.path.lexists(path):
        return "gone"
    if shown and shown == made.get("in_clear", {}).get("file") and _is_ours_in_clear(run, made):
        return f"{_DESTROYED}{utc_stamp()}" if destroy(path, made=shown) else "kept: changed meanwhile"
    return "kept: not the file that 03 wrote, or not in the plan"


def show_encrypting_function() -> Text:
    """Return the source of the function that encrypts the material, for the page."""
    return Text("runbook_lib/material/key_material.py", inspect.getsource(key_material.encrypt_key_material).rstrip())


def show_openssl_commands(step: OpenStep) -> Text:
    """Return the openssl commands that do the same with the algorithm of this run."""
    algorithm = step.run.record(PAIR_STEP)["request"]["WrappingAlgorithm"]
    return Text(
        f"With openssl 1.1.1 or newer, {algorithm}", key_material.openssl_commands(wrapping_algorithm=algorithm)
    )


def show_post_commands() -> Text:
    """Return the post's own commands."""
    return Text("The post's commands (deprecated, SHA-1)", key_material.post_openssl_commands())


def read_custody(run: Run, record: dict[str, Any]) -> dict[str, Any]:
    """Return custody.json after holding every file of the set against it.

    Raises `ArtefactsMismatch` when a file is not of this set, and `ArtefactMissing` when one is gone.
    """
    return read_set(run.read, fingerprint=record["set"])


def verify_encrypt_key_material(step: OpenStep) -> Checks:
    """Hold the set against the wrapping key and the custody asked for, and finish the step.

    Raises `VerificationFailed`, `ArtefactsMismatch`, `ArtefactMissing`.
    """
    made = step.made()
    if "set" not in made:
        raise StepMissing(f"nothing was applied in run {step.run.run_id!r}; run the apply cell first")
    pair = step.run.record(PAIR_STEP)
    size = key_material.WRAPPING_KEY_SPECS[pair["request"]["WrappingKeySpec"]] // 8
    checks = Checks("The encrypted key material")
    if not step.run.made(IMPORT_STEP).get("key_material_id"):
        checks.equal(
            "it was made with the wrapping key of this run",
            pair["sha256"]["WrappingPublicKey.bin"][:16],
            made["wrapping_public_key_sha256"][:16],
            source=CUSTODY,
        )
        checks.equal(
            "it is as long as the wrapping key",
            f"{size} bytes",
            f"{len(step.run.read(ENCRYPTED))} bytes",
            source=ENCRYPTED,
        )
    kept = made["custody"]
    copies = [name for name in made["files"] if name.startswith(recovery_copies.PREFIX)]
    held = [one["file"] for one in kept["holders"] if one["file"] in copies]
    checks.equal("every holder has a file", len(kept["holders"]), len(held), source=CUSTODY)
    checks.holds(
        "somebody keeps the original, or it is accepted that nobody here does",
        "a holder, a token, a file, or your word",
        kept["custody"],
        lambda how: bool(copies) or how in ("hsm", "file", "none"),
        source=CUSTODY,
    )
    whole = [name for name, digest in made["files"].items() if key_material.fingerprint(step.run.read(name)) == digest]
    checks.equal("no file of the set was changed", list(made["files"]), whole, source="SHA-256 of each file")
    checks.require_passed()
    step.run.finish(
        step.name,
        summary=f"{kept['source']}, key check value {made['key_check_value'] or 'unknown here'}, {_in_words(kept)}",
    )
    return checks


def _in_words(kept: dict[str, Any]) -> str:
    number = len(kept["holders"])
    return {
        "recovery_key": f"{number} recovery {'copy' if number == 1 else 'copies'}",
        "split": f"{number} components, all needed",
        "hsm": "original in the HSM",
        "file": f"original in {recovery_copies.PLAINTEXT}",
        "none": "original kept elsewhere",
    }[kept["custody"]]
