"""AWS's own command line against the sandbox, with files that the runbook made."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runbook_lib import open_step
from runbook_lib.inputs import kms as kms_inputs
from runbook_lib.inputs import start as start_inputs
from runbook_lib.steps import (
    create_key,
    encrypt_key_material,
    get_parameters_for_import,
)
from runbook_lib.steps import (
    start as start_step,
)

AWS = Path(sys.executable).parent / "aws"
pytestmark = pytest.mark.skipif(not AWS.exists() and not shutil.which("aws"), reason="awscli is not installed")


def aws(world, *words):
    """Run an aws command against the world's sandbox; return its JSON."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu-west-2",
                    "AWS_ENDPOINT_URL": world.sandbox.url, "AWS_PAGER": ""}  # fmt: skip
    done = subprocess.run(
        [str(AWS if AWS.exists() else "aws"), *words, "--output", "json"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else {}


@pytest.fixture
def run_folder(world, monkeypatch):
    """A run that has come to 03: its key waits for material, its files lie in the folder."""
    monkeypatch.setenv("RUNBOOK_RUNS_DIR", str(world.folder))
    started = start_inputs.StartInputs(run_id="cli")
    step = start_step.open_run(started)
    start_step.apply(step, start_step.plan(step, started))
    start_step.verify(step)
    step = open_step("01_create_key", run_id="cli")
    create_key.apply(step, create_key.plan(step, kms_inputs.CreateKeyInputs(run_id="cli")))
    create_key.verify(step)
    step = open_step("02_get_parameters_for_import", run_id="cli")
    asked = kms_inputs.GetParametersForImportInputs(run_id="cli", wrapping_key_spec="RSA_3072")
    get_parameters_for_import.apply(step, get_parameters_for_import.plan(step, asked))
    get_parameters_for_import.verify(step)
    step = open_step("03_encrypt_key_material", run_id="cli")
    material = kms_inputs.EncryptKeyMaterialInputs(run_id="cli")
    encrypt_key_material.apply(step, encrypt_key_material.plan(step, material))
    return world.folder / "cli"


def test_the_aws_command_line_imports_the_files_of_a_run(world, run_folder, tmp_path):
    """ImportToken.bin and EncryptedKeyMaterial.bin are what `aws kms import-key-material` takes as they are."""
    key_id = open_step("01_create_key", run_id="cli").run.record("01_create_key")["key_id"]
    described = aws(world, "kms", "describe-key", "--key-id", key_id)["KeyMetadata"]
    assert ("EXTERNAL", "PendingImport") == (described["Origin"], described["KeyState"])
    aws(world, "kms", "import-key-material", "--key-id", key_id,
        "--import-token", f"fileb://{run_folder}/ImportToken.bin",
        "--encrypted-key-material", f"fileb://{run_folder}/EncryptedKeyMaterial.bin",
        "--expiration-model", "KEY_MATERIAL_DOES_NOT_EXPIRE")  # fmt: skip
    described = aws(world, "kms", "describe-key", "--key-id", "alias/aurora-byok")["KeyMetadata"]
    assert (True, "KEY_MATERIAL_DOES_NOT_EXPIRE") == (described["Enabled"], described["ExpirationModel"])
    (tmp_path / "plain").write_bytes(b"hello")
    sealed = aws(world, "kms", "encrypt", "--key-id", key_id, "--plaintext", f"fileb://{tmp_path}/plain")
    (tmp_path / "sealed").write_bytes(base64.b64decode(sealed["CiphertextBlob"]))
    opened = aws(world, "kms", "decrypt", "--ciphertext-blob", f"fileb://{tmp_path}/sealed")
    assert b"hello" == base64.b64decode(opened["Plaintext"])


def test_what_the_aws_command_line_fetched_is_what_the_library_wraps_for(world, tmp_path):
    """The other way round: create and fetch with aws, wrap with the library, import with aws."""
    from runbook_lib.material.key_material import KeyMaterial, encrypt_key_material

    key_id = aws(world, "kms", "create-key", "--origin", "EXTERNAL")["KeyMetadata"]["KeyId"]
    fetched = aws(world, "kms", "get-parameters-for-import", "--key-id", key_id,
                  "--wrapping-algorithm", "RSAES_OAEP_SHA_256", "--wrapping-key-spec", "RSA_2048")  # fmt: skip
    (tmp_path / "token").write_bytes(base64.b64decode(fetched["ImportToken"]))
    with KeyMaterial.generate() as material:
        wrapped = encrypt_key_material(
            material,
            wrapping_public_key=base64.b64decode(fetched["PublicKey"]),
            wrapping_algorithm="RSAES_OAEP_SHA_256",
        )
    (tmp_path / "wrapped").write_bytes(wrapped)
    aws(world, "kms", "import-key-material", "--key-id", key_id, "--import-token", f"fileb://{tmp_path}/token",
        "--encrypted-key-material", f"fileb://{tmp_path}/wrapped",
        "--expiration-model", "KEY_MATERIAL_DOES_NOT_EXPIRE")  # fmt: skip
    assert "Enabled" == aws(world, "kms", "describe-key", "--key-id", key_id)["KeyMetadata"]["KeyState"]
