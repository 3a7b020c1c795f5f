"""What 03 will read is judged before a key exists: `plan` and `run` name the parameter, the file and the command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from runbook_cli.main import main
from runbook_cli.parameters import values_from
from runbook_cli.runner.run_folder import _is_same
from runbook_lib.errors import InputError
from runbook_lib.inputs.kms import EncryptKeyMaterialInputs
from runbook_lib.steps.judge_material import require_material

PEM, SPKI = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
CLEAR = serialization.NoEncryption()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files that somebody names as recovery key, by what they are."""
    folder = tmp_path_factory.mktemp("keys")
    private, curve = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
    contents = {
        "good": private.public_key().public_bytes(PEM, SPKI),
        "private": private.private_bytes(PEM, serialization.PrivateFormat.PKCS8, CLEAR),
        "curve": curve.public_key().public_bytes(PEM, SPKI),
        "certificate": b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: str(folder / name) for name in (*contents, "absent")}


def problems(folder: Path, target: str = "sandbox", **given: Any) -> dict[str, str]:
    try:
        require_material(EncryptKeyMaterialInputs.check(given), target=target, runs_dir=folder)
    except InputError as error:
        return dict(error.problems)
    return {}


@pytest.mark.parametrize(("which", "said"), [
    ("private", "is a private key; give its public key (openssl rsa"), ("curve", "of the kind EC, which cannot decrypt"),
    ("certificate", "a certificate; convert it: openssl x509"), ("absent", "give the path of an existing file"),
])  # fmt: skip
def test_a_wrong_recovery_key_is_named_with_the_way_out(
    keys: dict[str, str], tmp_path: Path, which: str, said: str
) -> None:
    """Each kind; the right one passes."""
    found = problems(tmp_path, recovery_public_keys=[keys[which]])["recovery_public_keys"]
    assert repr(keys[which]) in found
    assert said in found
    assert {} == problems(tmp_path, recovery_public_keys=[keys["good"]])


def test_with_target_aws_a_recovery_key_is_needed(keys: dict[str, str], tmp_path: Path) -> None:
    """Found before the key exists, as 03 would find it later."""
    assert "is empty with target aws" in problems(tmp_path, "aws")["recovery_public_keys"]
    assert {} == problems(tmp_path, "aws", recovery_public_keys=[keys["good"]])


@pytest.mark.parametrize(("content", "mode", "said"), [
    (os.urandom(31), 0o600, "32"), (bytes(32), 0o600, "guessed"), (os.urandom(32), 0o644, "644"), (None, 0, "material"),
], ids=["length", "guessable", "rights", "absent"])  # fmt: skip
def test_a_wrong_key_material_file_is_named(tmp_path: Path, content: bytes | None, mode: int, said: str) -> None:
    """Length, guessable bytes, rights of others, no file; the content is not shown."""
    path = tmp_path / "material.bin"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    found = problems(tmp_path, key_material_source="file", key_material_file=str(path))["key_material_file"]
    assert said in found
    assert not content or content.hex() not in found


def test_a_right_key_material_file_passes(tmp_path: Path) -> None:
    """The twin."""
    path = tmp_path / "material.bin"
    path.write_bytes(os.urandom(32))
    path.chmod(0o600)
    assert {} == problems(tmp_path, key_material_source="file", key_material_file=str(path))


def test_module_and_origin_of_the_pin_are_named_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both at once; the PIN itself is not read."""
    monkeypatch.delenv("NO_PIN", raising=False)
    found = problems(tmp_path, key_material_source="pkcs11", custody="hsm", pkcs11_module="/nowhere/lib.so",
                     pkcs11_token_label="t", pkcs11_pin_from="env:NO_PIN")  # fmt: skip  # noqa: S106
    assert {"pkcs11_module", "pkcs11_pin_from"} == set(found)
    assert "environment variable NO_PIN is not set" in found["pkcs11_pin_from"]


@pytest.mark.parametrize("command", ["plan", "run"])
def test_the_command_exits_with_2_and_leaves_no_folder(
    keys: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Nothing was called or created."""
    monkeypatch.setenv("RUNBOOK_RUNS_DIR", str(tmp_path / "runs"))
    done = CliRunner().invoke(main, [command, "-p", "recovery_public_keys", f"[{keys['private']}]"])
    assert 2 == done.exit_code
    assert "is a private key" in done.output
    assert not (tmp_path / "runs").exists()


def test_paths_of_a_file_hang_on_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of -p on the current folder; `~` is expanded in both."""
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "parameters" / "one.yaml"
    file.parent.mkdir()
    file.write_text("recovery_public_keys: [a.pem, ../b.pem, ~/c.pem, /d.pem]\nkey_material_file: e.bin\n")
    values = values_from(file, [("recovery_private_key", "f.pem"), ("pkcs11_module", "~/g.so")])
    here = str(tmp_path)
    assert [f"{here}/parameters/a.pem", f"{here}/b.pem", "/home/somebody/c.pem", "/d.pem"] == values[
        "recovery_public_keys"
    ]
    assert (f"{here}/parameters/e.bin", f"{here}/f.pem", "/home/somebody/g.so") == (
        values["key_material_file"], values["recovery_private_key"], values["pkcs11_module"])  # fmt: skip


@pytest.mark.parametrize(("now", "was", "same"), [
    ("/x/keys/a.pem", "keys/a.pem", True), ("/x/keys/a.pem", "other/a.pem", False), (["/x/a.pem"], ["a.pem"], True),
    (["/x/a.pem"], [], False), ("b", "b", True), ("/x/a.pem", "", False), (True, 1, True), ("/y/a.pem", "/x/a.pem", False),
])  # fmt: skip
def test_a_run_of_an_earlier_version_has_relative_paths(now: Any, was: Any, same: bool) -> None:
    """They count as unchanged, so that its nightly verification goes on."""
    assert same is _is_same(now, was)
