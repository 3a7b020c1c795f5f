"""The steps of a run, walked through in this process against a sandbox, without notebooks and kernels."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import boto3
from openssl import private_key, private_pem, public_pem, put

from runbook_lib.aws.session import Session
from runbook_lib.checks import Checks
from runbook_lib.inputs import kms as kms_inputs
from runbook_lib.inputs import rds as rds_inputs
from runbook_lib.inputs import start as start_inputs
from runbook_lib.plan import Plan
from runbook_lib.run.run import Run
from runbook_lib.run.steps import STEP_INPUTS
from runbook_lib.steps import (
    create_cluster,
    create_key,
    encrypt_key_material,
    get_parameters_for_import,
    import_key_material,
    verify_encryption,
)
from runbook_lib.steps import (
    start as start_step,
)
from runbook_lib.steps.open_step import OpenStep, open_step

KNOWN = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
OTHER = bytes.fromhex(
    "43a43b86bed1afa6036a9caab48ca0567b952a3bf732f4d8ea19538557a4e594"
)  # SHA-256 of b"other material"
CHECK_VALUE = "1a0b2d"  # its key check value, as openssl gives it
FAST = {"wrapping_key_spec": "RSA_2048"}


@cache
def _client(url: str, service: str) -> Any:
    return boto3.client(
        service, endpoint_url=url, region_name="eu-west-2",
        aws_access_key_id="x", aws_secret_access_key="x",  # noqa: S106
    )  # fmt: skip


class Walk:
    """One run in a folder, on the sandbox at `endpoint`."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.folder, self.endpoint, self.run_id = folder, endpoint, "demo"
        self._session: Session | None = None
        self.keys = folder.parent / "keys"
        self.keys.mkdir(mode=0o700, exist_ok=True)

    @property
    def run(self) -> Run:
        return Run.open(self.run_id, runs_dir=self.folder)

    @property
    def path(self) -> Path:
        return self.folder / self.run_id

    def step(self, number: str) -> OpenStep:
        """Open a step anew, as its notebook does."""
        name = next(name for name in STEP_INPUTS if name.startswith(number))
        step = open_step(name, run_id=self.run_id, runs_dir=self.folder)
        step._session = self._session  # one for all steps: a session takes a quarter of a second to make
        return step

    def client(self, service: str = "kms") -> Any:
        """Return a plain client, as somebody has who knows nothing of the runbook."""
        return _client(self.endpoint, service)

    # Steps -----------------------------------------------------------------------------------------------

    def start(self) -> Walk:
        """Do 00 and 01."""
        asked = start_inputs.StartInputs.check({"run_id": self.run_id})
        step = start_step.open_run(asked, runs_dir=self.folder)
        self._session = step.session
        start_step.apply(step, start_step.plan(step, asked))
        start_step.verify(step)
        step = self.step("01")
        create_key.apply(step, create_key.plan(step, kms_inputs.CreateKeyInputs.check({})))
        create_key.verify(step)
        return self

    def pair(self, **given: Any) -> Walk:
        """Do 02."""
        step = self.step("02")
        asked = kms_inputs.GetParametersForImportInputs.check({**FAST, **given})
        get_parameters_for_import.apply(step, get_parameters_for_import.plan(step, asked))
        get_parameters_for_import.verify(step)
        return self

    def plan(self, **given: Any) -> Plan:
        """Plan 03."""
        return encrypt_key_material.plan(self.step("03"), kms_inputs.EncryptKeyMaterialInputs.check(given))

    def encrypt(self, **given: Any) -> Checks:
        """Do 03."""
        step, asked = self.step("03"), kms_inputs.EncryptKeyMaterialInputs.check(given)
        encrypt_key_material.apply(step, encrypt_key_material.plan(step, asked))
        return encrypt_key_material.verify(step)

    def plan_import(self, **given: Any) -> Plan:
        """Plan 04."""
        return import_key_material.plan(self.step("04"), kms_inputs.ImportKeyMaterialInputs.check(given))

    def bring_in(self, **given: Any) -> Checks:
        """Do 04."""
        step, asked = self.step("04"), kms_inputs.ImportKeyMaterialInputs.check(given)
        import_key_material.apply(step, import_key_material.plan(step, asked))
        return import_key_material.verify(step)

    def cluster(self) -> Walk:
        """Do 05 and 06."""
        step, asked = self.step("05"), rds_inputs.CreateClusterInputs.check({})
        create_cluster.apply(step, create_cluster.plan(step, asked))
        create_cluster.verify(step)
        step, looking = self.step("06"), rds_inputs.VerifyEncryptionInputs.check({})
        verify_encryption.apply(step, verify_encryption.plan(step, looking))
        verify_encryption.verify(step)
        return self

    # What is there ------------------------------------------------------------------------------------------

    @property
    def key_id(self) -> str:
        return str(self.run.record("01_create_key")["key_id"])

    @property
    def key(self) -> dict[str, Any]:
        """The key's metadata as AWS has them."""
        return dict(self.client().describe_key(KeyId=self.key_id)["KeyMetadata"])

    def delete_material(self) -> None:
        """Lose the material."""
        self.client().delete_imported_key_material(KeyId=self.key_id)

    # What is brought ----------------------------------------------------------------------------------------

    def material(self, content: bytes = KNOWN, name: str = "material.bin") -> str:
        """Return the path of a file of 32 bytes."""
        return str(put(self.keys / name, content))

    def public(self, number: int = 0) -> str:
        """Return the path of a recovery public key."""
        return str(put(self.keys / f"public-{number}.pem", public_pem(private_key(2048, number))))

    def private(self, number: int = 0, password: bytes = b"") -> str:
        """Return the path of its private half."""
        return str(put(self.keys / f"private-{number}.pem", private_pem(private_key(2048, number), password)))


def custody_of(kind: str, walk: Walk) -> dict[str, Any]:
    """Return the choices of 03 that take the known material into this custody."""
    chosen: dict[str, Any] = {"key_material_source": "file", "key_material_file": walk.material(), "custody": kind}
    more: dict[str, dict[str, Any]] = {
        "recovery_key": {"recovery_public_keys": [walk.public(0), walk.public(1)]},
        "split": {"recovery_public_keys": [walk.public(0), walk.public(1), walk.public(2)]},
        "file": {"keep_plaintext_file": True},
        "none": {"accept_no_custody": True},
    }
    return chosen | more[kind]
