"""Typed records: what each step leaves for the others; state.json holds the same fields as JSON.

`X.from_run(run)` requires that the step has finished. `X.so_far(run)` returns what is recorded until now, with empty
values for the rest. A run folder is input: a record of wrong types is refused with one line. No record holds a secret.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runbook_lib.errors import RunUnreadable, StepMissing
from runbook_lib.files import is_the_very
from runbook_lib.material.custody_record import CustodyRecord
from runbook_lib.run import steps
from runbook_lib.run.run import Run


class StepRecord(BaseModel):
    """The record of one step. Unknown fields are ignored; the fields in `needed` must not be empty after the step."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    step: ClassVar[str]
    needed: ClassVar[tuple[str, ...]] = ()

    summary: str = ""

    @classmethod
    def from_run(cls, run: Run) -> Self:
        """Return the record of the finished step.

        Raises `StepMissing`, naming the notebook to run, and `RunUnreadable` if a needed field is empty or wrong.
        """
        run.require_finished(cls.step)
        record = cls.so_far(run)
        if lacking := [name for name in cls.needed if not getattr(record, name)]:
            raise RunUnreadable(_damaged(run, cls.step, f"no {', '.join(lacking)}"))
        return record

    @classmethod
    def so_far(cls, run: Run) -> Self:
        """Return what the step has recorded until now, finished or not. Raises `RunUnreadable` for a wrong type."""
        try:
            return cls.model_validate_json(json.dumps(run.made(cls.step)))
        except ValidationError as error:
            wrong = sorted({".".join(map(str, problem["loc"])) for problem in error.errors()})
            raise RunUnreadable(_damaged(run, cls.step, f"wrong: {', '.join(wrong)}")) from None


def _damaged(run: Run, step: str, what: str) -> str:
    return (
        f"state.json of run {run.run_id!r} is damaged in {step} ({what}); restore {run.path} from a backup, or run "
        f"notebooks/{step}.ipynb again"
    )


class StartRecord(StepRecord):
    """00: the caller that started the run, and the names that were checked."""

    step = steps.START
    needed = ("db_cluster_identifier",)

    caller_arn: str = ""
    key_alias: str = ""
    db_cluster_identifier: str = ""
    engine_version: str = ""
    changes: tuple[str, ...] = ()


class KeyRecord(StepRecord):
    """01: the KMS key of the run."""

    step = steps.CREATE_KEY
    needed = ("key_id", "key_arn", "key_alias")

    key_id: str = ""
    key_arn: str = ""
    key_alias: str = ""
    earlier_aliases: list[str] = []
    key_policy: dict[str, Any] = {}
    key_state: str = ""
    service_linked_role_created: bool = False


class WrappingRequest(BaseModel):
    """The request of GetParametersForImport, under AWS's own parameter names."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    KeyId: str = ""
    WrappingAlgorithm: str = ""
    WrappingKeySpec: str = ""


class ImportParameters(StepRecord):
    """02: the wrapping public key and import token, as file names and SHA-256."""

    step = steps.GET_PARAMETERS_FOR_IMPORT
    needed = ("key_arn", "parameters_valid_to", "sha256")

    key_arn: str = ""
    key_material_id: str = ""
    request: WrappingRequest = WrappingRequest()
    parameters_valid_to: str = ""
    sha256: dict[str, str] = {}
    sha256_of_others: dict[str, str] = {}
    archive: str = ""
    writing: tuple[tuple[str, str], ...] = ()
    token_on_disk: tuple[int, ...] = ()
    valid_until: str = ""
    needed_by: str = ""

    @property
    def as_request(self) -> dict[str, str]:
        """The request parameters of GetParametersForImport, to send it again."""
        return self.request.model_dump()

    @property
    def valid_to(self) -> datetime:
        """When the import token expires, as AWS answered (ParametersValidTo)."""
        return datetime.fromisoformat(self.parameters_valid_to)


class PlaintextFile(BaseModel):
    """PlaintextKeyMaterial.bin as 03 wrote it: its identity on disk (`files.write_private`) and its key check value."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    file: tuple[int, ...]
    key_check_value: str


class MaterialRecord(StepRecord):
    """03 (and each later rotation): one set of encrypted key material with its custody.

    `set` is the SHA-256 of custody.json, `files` that of each file, `made_with` the inputs that the set is based on.
    """

    step = steps.ENCRYPT_KEY_MATERIAL
    needed = ("set", "wrapping_public_key_sha256", "files", "custody_record")

    set: str = ""
    key_check_value: str = ""
    wrapping_public_key_sha256: str = ""
    files: dict[str, str] = {}
    custody_record: CustodyRecord | None = Field(default=None, alias="custody")
    made_with: dict[str, Any] = {}
    brought: str = ""
    writing: tuple[tuple[str, str], ...] = ()
    in_clear: PlaintextFile | None = None

    @property
    def custody(self) -> CustodyRecord:
        """Who keeps a backup of the key material. Raises `StepMissing` if there is no set yet."""
        if self.custody_record is None:
            raise StepMissing(f"this run has no custody record; run notebooks/{self.step}.ipynb first")
        return self.custody_record

    @property
    def shown_check_value(self) -> str:
        """The key check value, or `unknown here` if the key material was wrapped elsewhere."""
        return self.key_check_value or "unknown here"


class ImportRecord(StepRecord):
    """04: the key material in the KMS key. `valid_to` is empty if it does not expire."""

    step = steps.IMPORT_KEY_MATERIAL
    needed = ("expiration_model",)

    key_material_id: str = ""
    expiration_model: str = ""
    valid_to: str = ""
    key_state: str = ""
    plaintext_file: str = ""
    recovered_at: str = ""
    plaintext_to_delete: tuple[int, ...] = ()
    handed_over: dict[str, str] = {}

    @property
    def expires(self) -> str:
        """A phrase: when the key material expires, or that it does not."""
        return f"expires at {self.valid_to}" if self.valid_to else "does not expire"


class ClusterRecord(StepRecord):
    """05: one DB cluster, with the resources that were created for it."""

    step = steps.CREATE_CLUSTER
    needed = ("db_cluster_identifier", "db_cluster_resource_id", "db_instance_identifiers")

    db_cluster_identifier: str = ""
    db_cluster_arn: str = ""
    db_cluster_resource_id: str = ""
    db_subnet_group_name: str = ""
    vpc_security_group_ids: tuple[str, ...] = ()
    db_instance_identifiers: tuple[str, ...] = ()
    made_subnet_group: str = ""
    made_security_group_id: str = ""


class VerificationRecord(StepRecord):
    """06: when the evidence was last gathered, and its verdict."""

    step = steps.VERIFY_ENCRYPTION
    needed = ("verified_at", "verdict")

    verified_at: str = ""
    verdict: str = ""
    db_cluster_snapshot_identifier: str = ""


class RotatedMaterial(BaseModel):
    """One new key material of 20, with its own files: `folder` is their place in the run folder.

    `key_material_id` is empty until it is imported, `rotated_at` until the key was rotated to it (RotationDate).
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    folder: str = Field(pattern=r"^materials/[0-9a-z-]{1,64}$")
    set: str
    key_check_value: str = ""
    files: dict[str, str]
    pair: dict[str, str]
    parameters_valid_to: str
    custody: CustodyRecord
    made_with: dict[str, Any] = {}
    key_material_id: str = ""
    expiration_model: str = ""
    valid_to: str = ""
    rotated_at: str = ""
    recovered_at: str = ""

    @property
    def pair_valid_to(self) -> datetime:
        """When its import token expires, as AWS answered (ParametersValidTo)."""
        return datetime.fromisoformat(self.parameters_valid_to)


class PreparedPair(BaseModel):
    """A wrapping key and import token of 20 that were handed over: SHA-256 by file name, and until when they are valid."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    files: dict[str, str]
    parameters_valid_to: str


class RotationRecord(StepRecord):
    """20: the key materials that followed the first one, oldest first; and a pair that waits for its hand-back."""

    step = steps.ROTATE_KEY_MATERIAL

    materials: tuple[RotatedMaterial, ...] = ()
    prepared: PreparedPair | None = None

    @property
    def unfinished(self) -> RotatedMaterial | None:
        """The material that the key was not rotated to yet."""
        return next((one for one in self.materials if not one.rotated_at), None)


class WatchRecord(StepRecord):
    """21: what watches the key, by ARN and name; `deaf` are the rules that heard nothing, for lack of a trail, at the time."""

    step = steps.WATCH_KEY
    needed = ("topic_arn", "rules", "alarms")

    topic_arn: str = ""
    rules: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()
    deaf: tuple[str, ...] = ()
    test_message_id: str = ""


class DrillRecord(StepRecord):
    """80: what was observed without the key material (`without`), with other material, and after reimport (`after`)."""

    step = steps.RECOVERY_DRILL

    without: dict[str, str] = {}
    other_material: str = ""
    after: dict[str, str] = {}
    ciphertext_sha256: str = ""


class CleanUpRecord(StepRecord):
    """90: what applied plans listed for deletion (`planned`), what is deleted (`gone`), and the key's deletion date."""

    step = steps.CLEAN_UP

    planned: tuple[tuple[str, str], ...] = ()
    gone: tuple[str, ...] = ()
    key_deletion_date: str = ""


def was_restored(run: Run) -> bool:
    """Return whether the import token is not the very file that 02 wrote or checked, as in a copied or restored folder."""
    made = ImportParameters.so_far(run).token_on_disk
    return bool(made) and not is_the_very(run.path / "ImportToken.bin", made)


def materials(run: Run) -> tuple[MaterialRecord, ...]:
    """Return the sets of key material that the run has recorded, oldest first, at most one. Raises `RunUnreadable`."""
    record = MaterialRecord.so_far(run)
    return (record,) if record.set else ()
