"""Step 03: one set of encrypted key material and its backups, for the run's wrapping key; plan, apply and verify.

Works without AWS. `material/sources` reads or generates the material, `material/material_set` writes its files,
`custody_choice` plans who keeps the material.
"""

from __future__ import annotations

import inspect

from runbook_lib.checks import Checks
from runbook_lib.errors import ArtefactsMismatch, PlanOutdated, StepMissing
from runbook_lib.inputs.kms import EncryptKeyMaterialInputs
from runbook_lib.material import key_material, openssl_commands, recovery_copies
from runbook_lib.material.custody_record import CustodyRecord
from runbook_lib.material.hand_over import HAND_BACK
from runbook_lib.material.material_set import (
    CUSTODY,
    ENCRYPTED,
    MaterialSet,
    Wrapping,
    unexpected_files,
    write_set,
)
from runbook_lib.material.sources import make_set
from runbook_lib.plan import Change, Plan
from runbook_lib.run.records import ImportParameters, ImportRecord, MaterialRecord
from runbook_lib.run.steps import GET_PARAMETERS_FOR_IMPORT
from runbook_lib.steps.custody_choice import custody_changes, recovery_public_keys
from runbook_lib.steps.existing_set import WRAPPING_PUBLIC_KEY, ExistingSet, check_files, decide, wrapped_sha256
from runbook_lib.steps.hand_back import hand_back
from runbook_lib.steps.key_in_use import restored_since_02
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.plaintext_file import files_of, kept_aside, written
from runbook_lib.tables import Result, Text

_SOURCES = {
    "generate": "256 bits from this machine's random source, in memory only",
    "file": "32 bytes from {0.key_material_file} ({0.key_material_encoding})",
    "wrapped": "{0.key_material_file}, wrapped elsewhere: of a bare EncryptedKeyMaterial.bin only the size can be checked",
    "recovery": "decrypted from {0.key_material_file}",
    "pkcs11": "key {0.pkcs11_key_label!r} of token {0.pkcs11_token_label!r}, created if absent; never leaves it unencrypted",
}
_UNEXPECTED = "is in the run folder and was not written by this run; move it elsewhere"
_RESULT = "The encrypted key material and its backups are in the run folder. Its key check value is {}."


# Plan -------------------------------------------------------------------------------------------------------------


def plan(step: OpenStep, asked: EncryptKeyMaterialInputs) -> Plan:
    """Plan a new set, or keep the one made with the current wrapping key; call nothing.

    Until an import, a new set replaces the old one and its backups. After an import it is refused: only
    `runbook recover` imports the same material again. Raises `CustodyRefused`.
    """
    pair, material = ImportParameters.from_run(step.run), MaterialRecord.so_far(step.run)
    if material.set and (kept := _decided(step, ExistingSet(step.run, pair, material, asked))) is not None:
        return step.plan(asked, [kept])
    return step.plan(asked, _new_set(step, pair, material, asked))


def _decided(step: OpenStep, existing: ExistingSet) -> Change | None:
    decision = decide(existing.state())
    if decision is None:
        return None
    name = f"key check value {existing.material.shown_check_value}"
    why = decision.why.format(run_id=step.run.run_id, changed=", ".join(existing.changed))
    return Change(decision.action, "key material", name, why)


def _new_set(
    step: OpenStep, pair: ImportParameters, material: MaterialRecord, asked: EncryptKeyMaterialInputs
) -> list[Change]:
    changes = restored_since_02(step.run)
    if pair.key_material_id and asked.key_material_source == "generate":
        why = f"the key had material (KeyMaterialId {pair.key_material_id[:16]}), and KMS accepts no other; provide the same"
        changes.append(
            Change(
                "refuse", "key material", "generate", f"{why}: key_material_source recovery, file, wrapped or pkcs11"
            )
        )
    ours = files_of(step.run, material)
    changes += [Change("refuse", "file", name, _UNEXPECTED) for name in unexpected_files(step.run.path, ours)]
    if material.set:
        why = "never imported; deleted with its backups"
        changes.append(Change("delete", "superseded set", material.set[:8], why, request={"set": material.set}))
    source = asked.key_material_source
    changes.append(Change("create", "key material", source, _SOURCES[source].format(asked)))
    changes += hand_back(step.run, _wrapping(step), asked.key_material_file) if source == "wrapped" else []
    request = pair.request
    if source == "pkcs11":
        changes.append(_token(asked, request.WrappingAlgorithm))
    under = f"under {request.WrappingKeySpec}, {request.WrappingAlgorithm}"
    changes.append(Change("create", ENCRYPTED, ENCRYPTED, under))
    changes += kept_aside(step.run, [name for name in (ENCRYPTED, CUSTODY) if name not in ours])
    return [*changes, *custody_changes(step, asked)]


def _token(asked: EncryptKeyMaterialInputs, algorithm: str) -> Change:
    """Return the row with the HSM's wrapping algorithms; a refusal when step 02's algorithm is not among them."""
    from runbook_lib.material import pkcs11

    label, supported = asked.pkcs11_token_label, pkcs11.capabilities(asked.request().token)
    if supported is None:
        return Change("keep", "HSM token", label, "lists its algorithms after login only")
    if algorithm not in supported:
        return Change("refuse", "HSM token", label, pkcs11.incapable(label, supported, algorithm))
    return Change("keep", "HSM token", label, f"wraps with {' and '.join(supported)}")


# Apply ------------------------------------------------------------------------------------------------------------


def apply(step: OpenStep, plan: Plan) -> str:
    """Create the set: key material, its encryption, its backups; return the key check value.

    Applying the same plan again returns the first result. The material is in memory during this call, then overwritten
    as far as Python allows. Raises what `sources.make_set` raises for unusable files, keys and tokens; the old set then
    still exists.
    """
    asked: EncryptKeyMaterialInputs = plan.inputs
    with step.applying(plan):
        material = MaterialRecord.so_far(step.run)
        superseded = any(change.request.get("set") == material.set for change in plan.changes)
        applied_before = material.set and not superseded  # any other plan's set would have made this plan outdated
        if plan.change("key material").action == "keep" or applied_before:
            return Result(material.key_check_value, _RESULT)
        wrapping = _wrapping(step)
        if found := unexpected_files(step.run.path, files_of(step.run, material)):
            raise PlanOutdated(f"nothing was changed: {', '.join(found)} {_UNEXPECTED}; then run the plan cell again")
        created = make_set(asked.request(), wrapping, recovery_public_keys=recovery_public_keys(step, asked))
        shown = [change.request["fingerprint"] for change in plan.changes if change.resource == HAND_BACK]
        if shown not in ([], [created.fingerprint]):
            raise PlanOutdated("nothing was changed: the hand-back archive is another than in the plan; run it again")
        _write(step, created, asked)
    return Result(created.record.key_check_value, _RESULT)


def _wrapping(step: OpenStep) -> Wrapping:
    """Return the wrapping key that step 02 fetched. Raises `ArtefactsMismatch`."""
    pair, public_key = ImportParameters.from_run(step.run), step.run.read(WRAPPING_PUBLIC_KEY)
    if key_material.fingerprint(public_key) != pair.sha256[WRAPPING_PUBLIC_KEY]:
        raise ArtefactsMismatch(
            f"{WRAPPING_PUBLIC_KEY} is not the file that step 02 wrote; run notebooks/{GET_PARAMETERS_FOR_IMPORT}.ipynb again"
        )
    return Wrapping(public_key, pair.request.WrappingAlgorithm, pair.request.WrappingKeySpec, pair.key_arn)


def _write(step: OpenStep, created: MaterialSet, asked: EncryptKeyMaterialInputs) -> None:
    """Replace the old set; record every file before it is written, so that an interrupted write can be resolved."""
    before = MaterialRecord.so_far(step.run)
    ours = files_of(step.run, before)
    files = {name: key_material.fingerprint(content) for name, content in sorted(created.files.items())}
    left = [[name, digest] for name, digest in written(before) if name in ours]
    step.run.note(step.name, writing=[*map(list, files.items()), [CUSTODY, created.fingerprint], *left])
    check_value = created.record.key_check_value
    write_set(
        created,
        folder=step.run.path,
        write=step.run.write,
        instead_of=ours,
        made_in_clear=before.in_clear.file if before.in_clear else (),
        wrote_in_clear=lambda file: step.run.note(step.name, in_clear={"file": file, "key_check_value": check_value}),
    )
    step.run.note(
        step.name,
        writing=[],
        made_with=asked.model_dump(),
        brought=wrapped_sha256(asked),
        set=created.fingerprint,
        key_check_value=check_value,
        wrapping_public_key_sha256=created.wrapping_public_key_sha256,
        files=files,
        custody=created.record.to_json(),
    )


# For the page -----------------------------------------------------------------------------------------------------


def show_encrypting_function() -> Text:
    """Return the source of the function that encrypts the material, for the page."""
    return Text("runbook_lib/material/key_material.py", inspect.getsource(key_material.encrypt_key_material).rstrip())


def show_openssl_commands(step: OpenStep) -> Text:
    """Return the openssl commands that do the same with this run's wrapping algorithm."""
    algorithm = ImportParameters.from_run(step.run).request.WrappingAlgorithm
    return Text(
        f"With openssl 1.1.1 or newer, {algorithm}", openssl_commands.openssl_commands(wrapping_algorithm=algorithm)
    )


def show_post_commands() -> Text:
    """Return the commands of the AWS post."""
    return Text("The AWS post's commands (deprecated, SHA-1)", openssl_commands.post_openssl_commands())


def verify(step: OpenStep) -> Checks:
    """Compare the set with the wrapping key and the requested custody, and finish the step.

    Raises `StepMissing`, `VerificationFailed`, `ArtefactsMismatch`, `ArtefactMissing`.
    """
    material = MaterialRecord.so_far(step.run)
    if not material.set:
        raise StepMissing(f"nothing was applied in run {step.run.run_id!r}; run the apply cell first")
    pair = ImportParameters.from_run(step.run)
    checks = Checks("The encrypted key material")
    if not ImportRecord.so_far(step.run).key_material_id:
        digest, made_with = pair.sha256[WRAPPING_PUBLIC_KEY][:16], material.wrapping_public_key_sha256[:16]
        checks.equal("it was made with the wrapping key of this run", digest, made_with, source=CUSTODY)
        size = key_material.WRAPPING_KEY_SPECS[pair.request.WrappingKeySpec] // 8
        found = f"{len(step.run.read(ENCRYPTED))} bytes"
        checks.equal("its length is that of the wrapping key", f"{size} bytes", found, source=ENCRYPTED)
    _check_custody(checks, step, material)
    checks.require_passed()
    custody = material.custody
    summary = f"{custody.source}, key check value {material.shown_check_value}, {_in_words(custody)}"
    step.run.finish(step.name, summary=summary)
    return checks


def _check_custody(checks: Checks, step: OpenStep, material: MaterialRecord) -> None:
    custody = material.custody
    copies = [name for name in material.files if name.startswith(recovery_copies.PREFIX)]
    held = [holder.file for holder in custody.holders if holder.file in copies]
    checks.equal("every holder has a backup file", len(custody.holders), len(held), source=CUSTODY)
    checks.holds(
        "the key material has a backup, or accept_no_custody is set",
        "recovery_key, split, hsm, file; none if accepted",
        custody.kind,
        lambda kind: bool(copies) or kind in ("hsm", "file", "none"),
        source=CUSTODY,
    )
    check_files(checks, step.run.read, material, claim="every file of the set is unchanged")


def _in_words(custody: CustodyRecord) -> str:
    number = len(custody.holders)
    return {
        "recovery_key": f"{number} {'backup' if number == 1 else 'backups'}",
        "split": f"{number} components, all needed",
        "hsm": "kept in the HSM",
        "file": f"kept in {recovery_copies.PLAINTEXT}",
        "none": "kept elsewhere",
    }[custody.kind]
