"""Step 02: the wrapping key and the import token; plan, apply and verify."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from runbook_lib.aws import kms
from runbook_lib.aws.retry import find_until_visible, retry_until_visible
from runbook_lib.checks import Checks
from runbook_lib.errors import (
    KeyNotUsable,
    StepMissing,
)
from runbook_lib.files import holds, identity_of, keep_aside, zip_files
from runbook_lib.inputs.kms import GetParametersForImportInputs
from runbook_lib.material import key_material
from runbook_lib.material.hand_over import BUNDLE, make_bundle
from runbook_lib.material.material_set import Wrapping
from runbook_lib.plan import Change, Plan
from runbook_lib.run.records import ImportParameters, KeyRecord, was_restored
from runbook_lib.run.steps import IMPORT_KEY_MATERIAL
from runbook_lib.steps.key_in_use import unknown_material
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.plaintext_file import kept_aside
from runbook_lib.tables import Result

PUBLIC_KEY, IMPORT_TOKEN, README = "WrappingPublicKey.bin", "ImportToken.bin", "README.txt"
PAIR = "wrapping key and import token"
CALL = "kms:GetParametersForImport"
_MARGIN = timedelta(minutes=10)


# Plan -------------------------------------------------------------------------------------------------------------


def plan(step: OpenStep, asked: GetParametersForImportInputs) -> Plan:
    """Plan to fetch a wrapping key and import token, or keep a pair that is complete, as requested and still valid.

    Raises `KeyNotUsable` when the key does not exist.
    """
    key = KeyRecord.from_run(step.run)
    metadata = find_until_visible(lambda: kms.describe(step.session, key.key_id), target=step.session.target)
    if metadata is None:
        raise KeyNotUsable(f"key {key.key_id} does not exist; start a new run")
    change = _change(step, asked, key, metadata)
    others = [name for name in (PUBLIC_KEY, IMPORT_TOKEN, README, BUNDLE) if not _is_ours(step, name)]
    return step.plan(asked, [change, *(kept_aside(step.run, others) if change.action == "create" else [])])


def _change(step: OpenStep, asked: GetParametersForImportInputs, key: KeyRecord, metadata: dict[str, Any]) -> Change:
    name, state = f"for {key.key_alias}", metadata["KeyState"]
    if state == "PendingDeletion":
        return Change("refuse", PAIR, name, "the key is PendingDeletion; cancel its deletion first")
    unknown = unknown_material(step.run, metadata)
    if unknown and state != "PendingImport":
        return Change("refuse", PAIR, name, unknown)
    if state != "PendingImport":
        return Change("keep", PAIR, name, "the material is imported: no new pair is needed")
    request = {
        "KeyId": key.key_id,
        "WrappingAlgorithm": asked.wrapping_algorithm,
        "WrappingKeySpec": asked.wrapping_key_spec,
    }
    record = ImportParameters.so_far(step.run)
    why = f"{asked.wrapping_key_spec}, {asked.wrapping_algorithm}, valid for 24 hours"
    if unknown and record.as_request == request:
        why = f"the key had material that this run folder has no record of; fetched again: {why}"
    if unknown or record.as_request != request:
        return Change("create", PAIR, name, why, CALL, request)
    if problem := _pair_problem(step, record):
        return Change("create", PAIR, name, f"{problem}; fetched again: {why}", CALL, request)
    return Change("keep", PAIR, name, "the pair is complete and valid", "", request)


def _is_ours(step: OpenStep, name: str) -> bool:
    """Return whether step 02 wrote this file of the run folder, or was writing it when it was interrupted."""
    record = ImportParameters.so_far(step.run)
    written = [*record.sha256.items(), *record.sha256_of_others.items(), *record.writing]
    return any(name == one and holds(step.run.path / name, digest) for one, digest in written)


def _pair_problem(step: OpenStep, record: ImportParameters) -> str:
    """Return the problem with the pair in the run folder; empty when there is none."""
    if record.valid_to - _MARGIN <= step.now():
        return "the pair has expired"
    for name, digest in record.sha256.items():
        file = step.run.path / name
        if not file.is_file() or key_material.fingerprint(file.read_bytes()) != digest:
            return f"{name} is missing or changed"
    return ""


# Apply ------------------------------------------------------------------------------------------------------------


def apply(step: OpenStep, plan: Plan) -> str:
    """Fetch the pair and write its files; return until when it is valid (ISO 8601, UTC).

    The zip holds the same three files as the one that the KMS console downloads. The import token stays with the
    operator. A pair is valid for 24 hours (KMS API, GetParametersForImport).
    """
    change = plan.change(PAIR)
    with step.applying(plan):
        if change.action == "create":
            _fetch(step, dict(change.request))
        elif was_restored(step.run) and (step.run.path / IMPORT_TOKEN).is_file():
            step.run.note(step.name, token_on_disk=identity_of(step.run.path / IMPORT_TOKEN))
    valid_to = ImportParameters.so_far(step.run).parameters_valid_to
    return Result(
        valid_to, "The wrapping public key and the import token are in the run folder; they are valid until {}."
    )


def _fetch(step: OpenStep, request: dict[str, str]) -> None:
    client = step.client("kms")
    answer = retry_until_visible(
        lambda: client.get_parameters_for_import(**request), codes=("NotFoundException",), target=step.session.target
    )
    key_material.load_wrapping_public_key(answer["PublicKey"], wrapping_key_spec=request["WrappingKeySpec"])
    valid_to = answer["ParametersValidTo"].astimezone(UTC)
    contents = {
        PUBLIC_KEY: answer["PublicKey"],
        IMPORT_TOKEN: answer["ImportToken"],
        README: _pair_readme(answer["KeyId"], request, valid_to).encode(),
    }
    archive = f"Import_Parameters_{request['KeyId']}_{step.now():%m%d%H%M}.zip"
    wrapping = Wrapping(
        answer["PublicKey"], request["WrappingAlgorithm"], request["WrappingKeySpec"], key_arn=answer["KeyId"]
    )
    others = {archive: zip_files(contents), BUNDLE: make_bundle(wrapping, valid_to=valid_to)}
    _write(step, contents | others, archive)
    metadata = kms.describe(step.session, request["KeyId"]) or {}
    step.run.note(
        step.name,
        key_arn=answer["KeyId"],
        key_material_id=metadata.get("CurrentKeyMaterialId", ""),  # set if the key had material before
        request=request,
        parameters_valid_to=valid_to.isoformat(timespec="seconds"),
        sha256={name: key_material.fingerprint(content) for name, content in contents.items()},
        sha256_of_others={name: key_material.fingerprint(content) for name, content in others.items()},
        archive=archive,
        token_on_disk=identity_of(step.run.path / IMPORT_TOKEN),
        writing=[],
    )


def _write(step: OpenStep, files: dict[str, bytes], archive: str) -> None:
    """Write the files; rename others of the same names, and delete the run's older zip."""
    for name in files:
        if not _is_ours(step, name):
            keep_aside(step.run.path / name)
    before = ImportParameters.so_far(step.run)
    if before.archive not in ("", archive) and _is_ours(step, before.archive):
        (step.run.path / before.archive).unlink()
    writing = [[name, key_material.fingerprint(content)] for name, content in files.items()]
    step.run.note(step.name, writing=[*map(list, before.writing), *writing])
    for name, content in files.items():
        step.run.write(name, content)


def _pair_readme(arn: str, request: dict[str, str] | Any, valid_to: datetime) -> str:
    return (
        "Parameters for importing key material into AWS KMS\n\n"
        f"KMS key             {arn}\n"
        f"Wrapping key spec   {request['WrappingKeySpec']}\n"
        f"Wrapping algorithm  {request['WrappingAlgorithm']}\n"
        f"Valid until         {valid_to:%Y-%m-%d %H:%M:%S} UTC\n\n"
        f"{PUBLIC_KEY}  the wrapping key: an RSA public key, DER (SubjectPublicKeyInfo)\n"
        f"{IMPORT_TOKEN}        the import token, valid with this wrapping key only\n\n"
        "Encrypt 32 bytes of key material with the wrapping key, then import the result with this token before the\n"
        "pair expires. The token never needs to leave the operator's machine.\n"
    )


# Verify -----------------------------------------------------------------------------------------------------------


def verify(step: OpenStep) -> Checks:
    """Compare the pair with the request, and finish the step. Raises `StepMissing`, `VerificationFailed`."""
    record = ImportParameters.so_far(step.run)
    if not record.sha256:
        raise StepMissing(f"nothing was applied in run {step.run.run_id!r}; run the apply cell first")
    checks = Checks("The wrapping key and import token")
    key_arn = KeyRecord.from_run(step.run).key_arn
    checks.equal("they are for the key of this run", key_arn, record.key_arn, source=CALL)
    public_key = key_material.load_wrapping_public_key(step.run.read(PUBLIC_KEY))
    size = key_material.WRAPPING_KEY_SPECS[record.request.WrappingKeySpec]
    claim = "the wrapping key has the requested size"
    checks.equal(claim, f"{size} bits", f"{public_key.key_size} bits", source=PUBLIC_KEY)
    length = len(step.run.read(IMPORT_TOKEN))
    checks.holds(
        "the token's length is within the API's limit",
        "1 to 6144 bytes",
        f"{length} bytes",
        lambda _: 1 <= length <= 6144,
        source=IMPORT_TOKEN,
    )
    if not step.run.is_finished(IMPORT_KEY_MATERIAL):
        checks.holds(
            "the pair has not expired",
            "later than now",
            record.parameters_valid_to,
            lambda text: datetime.fromisoformat(text) > step.now(),
            source=CALL,
        )
    checks.require_passed()
    request = record.request
    step.run.finish(
        step.name,
        valid_until=record.parameters_valid_to,
        needed_by=IMPORT_KEY_MATERIAL,
        summary=f"{request.WrappingKeySpec}, {request.WrappingAlgorithm}, valid until {record.valid_to:%Y-%m-%d %H:%M} UTC",
    )
    return checks
