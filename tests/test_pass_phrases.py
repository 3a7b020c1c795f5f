"""PINs and passwords: where to look is a parameter, what is found there is never one, and is never quoted."""

from __future__ import annotations

import getpass

import pytest
from openssl import put

from runbook_lib.errors import InputError, PassPhraseMissing, PrivateFileUnsafe
from runbook_lib.inputs.kms import EncryptKeyMaterialInputs
from runbook_lib.inputs.recovery import RecoveryDrillInputs
from runbook_lib.material import secret_sources
from runbook_lib.material.secret_sources import read_pass_phrase

SECRET = "correct horse"  # noqa: S105


def test_from_the_environment(monkeypatch):
    """env:NAME."""
    monkeypatch.setenv("PIN", SECRET)
    assert SECRET == read_pass_phrase("env:PIN", what="PIN")
    monkeypatch.setenv("PIN", "")
    with pytest.raises(PassPhraseMissing, match="PIN is not set"):
        read_pass_phrase("env:PIN", what="PIN")


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_from_a_file_without_its_line_feed(tmp_path, end):
    """file:PATH, for its owner only."""
    put(tmp_path / "pin", (SECRET + end).encode())
    assert SECRET == read_pass_phrase(f"file:{tmp_path / 'pin'}", what="PIN")
    (tmp_path / "pin").chmod(0o644)
    with pytest.raises(PrivateFileUnsafe):
        read_pass_phrase(f"file:{tmp_path / 'pin'}", what="PIN")


def test_from_a_person_if_one_is_there(monkeypatch):
    """prompt: asked without an echo, or refused where nobody would answer."""
    monkeypatch.setattr(getpass, "getpass", lambda words: SECRET if words == "PIN: " else "")
    monkeypatch.setattr(secret_sources, "_can_prompt", lambda: True)
    assert SECRET == read_pass_phrase("prompt", what="PIN")
    monkeypatch.setattr(secret_sources, "_can_prompt", lambda: False)
    with pytest.raises(PassPhraseMissing, match="nobody can answer a prompt here"):
        read_pass_phrase("prompt", what="PIN")


@pytest.mark.parametrize("model", [EncryptKeyMaterialInputs, RecoveryDrillInputs])
def test_a_password_given_as_a_parameter_is_refused_and_not_quoted(model):
    """It would stand in the notebook for ever: the message must not hold it either."""
    with pytest.raises(InputError, match="this does not say where to read the PIN or password") as refused:
        model.check({"recovery_password_from": SECRET})
    assert SECRET not in str(refused.value)
