"""Step 02: the wrapping key and the import token; plan, apply and verify."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

from runbook_lib.aws import kms
from runbook_lib.aws.create_once import look, until_seen
from runbook_lib.checks import Checks
from runbook_lib.errors import (
    KeyNotUsable,
    StepMissing,
)
from runbook_lib.files import holds, keep_aside
from runbook_lib.inputs.kms import GetParametersForImportInputs
from runbook_lib.material import key_material
from runbook_lib.material.hand_over import BUNDLE, make_bundle
from runbook_lib.material.material_set import Wrapping
from runbook_lib.plan import Change, Plan
from runbook_lib.steps.encrypt_key_material import kept_aside
from runbook_lib.steps.open_step import OpenStep

PUBLIC_KEY, IMPORT_TOKEN, README = "WrappingPublicKey.bin", "ImportToken.bin", "README.txt"
_MARGIN = timedelta(minutes=10)


# 02 get parameters for import --------------------------------------------------------------------------------


def plan_get_parameters_for_import(step: OpenStep, inputs: GetParametersForImportInputs) -> Plan:
    """Plan to fetch a wrapping key and import token, or to keep a pair that is whole, as asked and still valid."""
    key = step.run.record("01_create_key")
    metadata = look(lambda: kms.describe(step.session, key["key_id"]), target=step.session.target)
    if metadata is None:
        raise KeyNotUsable(f"key {key['key_id']} is gone; start a new run")
    name = f"for {key['key_alias']}"
    if metadata["KeyState"] == "PendingDeletion":
        change = Change(
            "refuse",
            "wrapping key and import token",
            name,
            "the key is PendingDeletion; cancel its deletion first",
        )
        return step.plan(inputs, [change])
    request = {
        "KeyId": key["key_id"],
        "WrappingAlgorithm": inputs.wrapping_algorithm,
        "WrappingKeySpec": inputs.wrapping_key_spec,
    }
    made = step.made()
    why = f"{inputs.wrapping_key_spec}, {inputs.wrapping_algorithm}, valid for 24 hours"
    if metadata["KeyState"] != "PendingImport":
        change = Change(
            "keep", "wrapping key and import token", name, "the material is imported: no new pair is needed"
        )
    elif made.get("request") != request:
        change = Change("create", "wrapping key and import token", name, why, "kms:GetParametersForImport", request)
    elif (broken := _pair_problem(step, made)) is not None:
        change = Change(
            "create",
            "wrapping key and import token",
            name,
            f"{broken}; fetched again: {why}",
            "kms:GetParametersForImport",
            request,
        )
    else:
        change = Change("keep", "wrapping key and import token", name, "the pair is whole and valid", "", request)
    others = [name for name in (PUBLIC_KEY, IMPORT_TOKEN, README, BUNDLE) if not _is_ours(step, name)]
    return step.plan(inputs, [change, *(kept_aside(step.run, others) if change.action == "create" else [])])


def _is_ours(step: OpenStep, name: str) -> bool:
    """Return whether a file in the run's folder is what 02 wrote, or was writing when it broke off."""
    made = step.made()
    written = [*made.get("sha256", {}).items(), *made.get("sha256_of_others", {}).items(), *made.get("writing", [])]
    return any(name == one and holds(step.run.path / name, digest) for one, digest in written)


def _pair_problem(step: OpenStep, made: dict[str, Any]) -> str | None:
    """Say what is wrong with the pair in the run folder, or None."""
    if datetime.fromisoformat(made["parameters_valid_to"]) - _MARGIN <= step.now():
        return "the pair has expired"
    for name, wanted in made["sha256"].items():
        file = step.run.path / name
        if not file.is_file() or key_material.fingerprint(file.read_bytes()) != wanted:
            return f"{name} is missing or changed"
    return None


def apply_get_parameters_for_import(step: OpenStep, plan: Plan) -> str:
    """Fetch the pair and write its files; return until when it is valid (ISO 8601).

    The console's zip holds the same three files; the token in it stays with the operator.
    """
    change = plan.change("wrapping key and import token")
    with step.applying(plan):
        if change.action == "create":
            kms_client = step.client("kms")
            answer = until_seen(
                lambda: kms_client.get_parameters_for_import(**change.request),
                codes=("NotFoundException",),
                target=step.session.target,
            )
            valid_to = answer["ParametersValidTo"].astimezone(UTC)
            key_material.load_wrapping_public_key(
                answer["PublicKey"], wrapping_key_spec=change.request["WrappingKeySpec"]
            )
            archive = f"Import_Parameters_{change.request['KeyId']}_{step.now():%m%d%H%M}.zip"
            contents = {
                PUBLIC_KEY: answer["PublicKey"],
                IMPORT_TOKEN: answer["ImportToken"],
                README: _pair_readme(answer["KeyId"], change.request, valid_to).encode(),
            }
            others = {archive: _zipped(contents), BUNDLE: _bundle(answer, change.request, valid_to)}
            everything = contents | others
            for name in everything:
                if not _is_ours(step, name):
                    keep_aside(step.run.path / name)
            old = step.made().get("archive", archive)
            if old != archive and _is_ours(step, old):
                (step.run.path / old).unlink()
            writing = [[name, key_material.fingerprint(content)] for name, content in everything.items()]
            step.run.note(step.name, writing=[*step.made().get("writing", []), *writing])
            for name, content in everything.items():
                step.run.write(name, content)
            metadata = kms.describe(step.session, change.request["KeyId"]) or {}
            step.run.note(
                step.name,
                key_arn=answer["KeyId"],
                key_material_id=metadata.get("CurrentKeyMaterialId", ""),  # what the key once had, if anything
                request=dict(change.request),
                parameters_valid_to=valid_to.isoformat(timespec="seconds"),
                sha256={name: key_material.fingerprint(content) for name, content in contents.items()},
                sha256_of_others={name: key_material.fingerprint(content) for name, content in others.items()},
                archive=archive,
                writing=[],
            )
    return str(step.made()["parameters_valid_to"])


def _bundle(answer: dict[str, Any], request: dict[str, str] | Any, valid_to: datetime) -> bytes:
    wrapping = Wrapping(
        answer["PublicKey"], request["WrappingAlgorithm"], request["WrappingKeySpec"], key_arn=answer["KeyId"]
    )
    return make_bundle(wrapping, valid_to=valid_to)


def _zipped(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _pair_readme(arn: str, request: dict[str, str] | Any, valid_to: datetime) -> str:
    return (
        "Parameters for importing key material into AWS KMS\n\n"
        f"KMS key             {arn}\n"
        f"Wrapping key spec   {request['WrappingKeySpec']}\n"
        f"Wrapping algorithm  {request['WrappingAlgorithm']}\n"
        f"Valid until         {valid_to:%Y-%m-%d %H:%M:%S} UTC\n\n"
        f"{PUBLIC_KEY}  the wrapping key: an RSA public key, DER (SubjectPublicKeyInfo)\n"
        f"{IMPORT_TOKEN}        the import token; it belongs to this wrapping key and to no other\n\n"
        "Encrypt 32 bytes of key material with the wrapping key, then import the result with this token before the\n"
        "pair expires. The token never needs to leave the operator's machine.\n"
    )


def verify_get_parameters_for_import(step: OpenStep) -> Checks:
    """Hold the pair against what was asked, and finish the step. Raises `VerificationFailed`."""
    made = step.made()
    if "request" not in made:
        raise StepMissing(f"nothing was applied in run {step.run.run_id!r}; run the apply cell first")
    size = key_material.WRAPPING_KEY_SPECS[made["request"]["WrappingKeySpec"]]
    public_key = key_material.load_wrapping_public_key(step.run.read(PUBLIC_KEY))
    checks = Checks("The wrapping key and import token")
    checks.equal(
        "they are for the key of this run",
        step.run.record("01_create_key")["key_arn"],
        made["key_arn"],
        source="kms:GetParametersForImport",
    )
    checks.equal(
        "the wrapping key has the size asked for",
        f"{size} bits",
        f"{public_key.key_size} bits",
        source=PUBLIC_KEY,
    )
    length = len(step.run.read(IMPORT_TOKEN))
    checks.equal(
        "the token is within AWS's limit of 6144 bytes",
        "1 to 6144 bytes",
        "1 to 6144 bytes" if 1 <= length <= 6144 else f"{length} bytes",
        source=IMPORT_TOKEN,
    )
    if not step.run.is_finished("04_import_key_material"):
        checks.holds(
            "the pair is valid now",
            "in the future",
            made["parameters_valid_to"],
            lambda text: datetime.fromisoformat(text) > step.now(),
            source="kms:GetParametersForImport",
        )
    checks.require_passed()
    step.run.finish(
        step.name,
        valid_until=made["parameters_valid_to"],
        needed_by="04_import_key_material",
        summary=f"{made['request']['WrappingKeySpec']}, {made['request']['WrappingAlgorithm']}, valid until "
        f"{made['parameters_valid_to'][:16].replace('T', ' ')} UTC",
    )
    return checks
