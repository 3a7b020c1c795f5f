"""The evidence for a stranger: only what the list names goes in, and sha256sum and openssl, not this runbook, check it."""

from __future__ import annotations

import os
import re
import stat
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from leaks import search
from openssl import openssl, private_key, private_pem, put, shell

from runbook_cli.main import main
from runbook_lib.errors import ArtefactMissing, FileNotWritable, RunLocked, SigningKeyInvalid
from runbook_lib.run import evidence_zip
from runbook_lib.run.lock import HOLDER_TOKEN, run_lock
from runbook_lib.run.run import Run

ROOT = Path(__file__).parent.parent
KNOWN = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
TARGET = {"target": "sandbox", "account_id": "123456789012", "region": "eu-west-2", "sandbox_id": "s"}
ROTATED = {
    "folder": "materials/a1b2c3", "set": "0" * 64, "files": {}, "pair": {}, "parameters_valid_to": "2026-01-01T00:00:00+00:00",
    "custody": {"custody": "none", "source": "generate", "key_check_value": "a1b2c3", "made_at": "now", "holders": []},
}  # fmt: skip
GOES_IN = [
    "CUSTODY.1a0b2d.txt",
    "custody.json",
    "materials/a1b2c3/CUSTODY.a1b2c3.txt",
    "materials/a1b2c3/custody.json",
    "notebooks/06_verify_encryption.attempt-2.ipynb",
    "notebooks/06_verify_encryption.ipynb",
    "report.html",
    "report.json",
    "reports/20260101T000000Z-report.html",
    "reports/20260101T000000Z-report.json",
    "state.json",
]
STAYS_OUT = [
    "PlaintextKeyMaterial.bin", "EncryptedKeyMaterial.bin", "KeyMaterial.recovery-0.bin", "ImportToken.bin",
    "TRAINING-recovery-private-key.pem", "hand-over.zip", "hand-back.zip", "drafts/03_encrypt_key_material.json",
    "materials/hand-over/custody.json", "materials/unknown/custody.json", "materials/a1b2c3/EncryptedKeyMaterial.bin",
    "custody.json.kept-1", "state.last-good.json", ".writing-report.html.x",
    "notebooks/.ipynb_checkpoints/06_verify_encryption.ipynb",
    "notebooks/page.ipynb", "notebooks/06_verify_encryption.bin", "reports/report.bin", "report.html.bin",
    "report.html\nreport.bin", "CUSTODY.\n.txt", "demo-evidence.zip",
]  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A run folder with everything that may be in one, and key material in all that must stay out."""
    run = Run.create("demo", runs_dir=tmp_path / "runs", target=TARGET)
    for name in [*GOES_IN, *STAYS_OUT]:
        if name != "state.json":
            path = run.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            put(path, KNOWN if name in STAYS_OUT else f"content of {name}".encode())
    run.note("20_rotate_key_material", materials=[ROTATED])
    return run


def unpacked(run, tmp_path, **how):
    """Pack the run; return what was packed, and the folder that a stranger unpacks it to."""
    packed = evidence_zip.pack(run, tmp_path / "evidence.zip", **how)
    folder = tmp_path / "stranger"
    with zipfile.ZipFile(packed.path) as archive:
        archive.extractall(folder)
    return packed, folder


def names_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def readme_commands(page):
    """Return the commands for an auditor: two in a block, and the one that compares the public key."""
    part = page.split("**For an auditor.**")[1].split("\n## ")[0]
    return re.findall(r"^\$ (.+)$", part, re.M), re.findall(r"`(openssl pkey [^`]+)`", part)[0]


# What goes in ---------------------------------------------------------------------------------------------------------


def test_exactly_the_list_goes_in(run, tmp_path):
    """Reports, notebooks, state and custody records, those of a rotation too; no *.bin, hand-over, draft or stray file."""
    packed, folder = unpacked(run, tmp_path)
    assert GOES_IN == sorted(packed.names)
    assert sorted([*GOES_IN, "README.txt", "SHA256SUMS"]) == names_below(folder)
    assert {} == search(folder, [KNOWN])
    assert search(run.path, [KNOWN]), "the twin: the run folder does have it"
    for name in GOES_IN:
        assert (run.path / name).read_bytes() == (folder / name).read_bytes()


def test_nothing_behind_a_link_goes_in(run, tmp_path):
    """A file, a folder, or the folder above it: a link may lead to anything that the user may read."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("report.html", "custody.json", "06_verify_encryption.ipynb", "20260101T000000Z-report.html"):
        put(outside / name, KNOWN)
    (run.path / "report.html").unlink()
    (run.path / "report.html").symlink_to(outside / "report.html")
    for folder, target in (("notebooks", outside), ("reports", outside), ("materials", outside)):
        (run.path / folder).rename(tmp_path / f"moved-{folder}")
        (run.path / folder).symlink_to(target)
    (outside / "a1b2c3").mkdir()
    put(outside / "a1b2c3" / "custody.json", KNOWN)
    packed, folder = unpacked(run, tmp_path)
    assert ["CUSTODY.1a0b2d.txt", "custody.json", "report.json", "state.json"] == sorted(packed.names)
    assert {} == search(folder, [KNOWN])


def test_what_is_not_a_file_is_left_out_and_does_not_block(run, tmp_path):
    """A folder or a named pipe with the name of a report."""
    (run.path / "report.html").unlink()
    (run.path / "report.json").unlink()
    (run.path / "report.html").mkdir()
    os.mkfifo(run.path / "report.json")
    packed, _ = unpacked(run, tmp_path)
    assert not {"report.html", "report.json"} & set(packed.names)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
@pytest.mark.parametrize("name", ["report.html", "notebooks"])
def test_a_report_that_cannot_be_read_is_not_left_out_silently(run, tmp_path, name):
    """It is named, and there is no zip."""
    mode = stat.S_IMODE((run.path / name).stat().st_mode)
    (run.path / name).chmod(0)
    try:
        with pytest.raises(ArtefactMissing, match=f"{name} cannot be read"):
            evidence_zip.pack(run, tmp_path / "evidence.zip")
    finally:
        (run.path / name).chmod(mode)
    assert not (tmp_path / "evidence.zip").exists()


def test_nothing_is_packed_while_a_step_writes(run, tmp_path, monkeypatch):
    """Half of the files would be of before."""
    with run_lock(run.path, what="06"):
        monkeypatch.delenv(HOLDER_TOKEN)  # as in a process that the holder did not start
        with pytest.raises(RunLocked, match="is held by 06"):
            evidence_zip.pack(run, tmp_path / "evidence.zip")
    assert not (tmp_path / "evidence.zip").exists()


def test_a_zip_is_private_and_never_replaces_a_file(run, tmp_path):
    """Mode 0600, and an existing file stays as it is."""
    packed = evidence_zip.pack(run, tmp_path / "evidence.zip")
    assert 0o600 == stat.S_IMODE(packed.path.stat().st_mode)
    before = packed.path.read_bytes()
    assert sha256(before).hexdigest() == packed.sha256
    with pytest.raises(FileNotWritable, match="give a path that does not exist"):
        evidence_zip.pack(run, tmp_path / "evidence.zip")
    assert before == packed.path.read_bytes()


# How a stranger checks it -------------------------------------------------------------------------------------------------

CHECKS, FINGERPRINT = readme_commands((ROOT / "README.md").read_text(encoding="utf-8"))
EC = {name: ec.generate_private_key(curve()) for name, curve in (("P-256", ec.SECP256R1), ("P-384", ec.SECP384R1))}


def pem(key, password=b""):
    return private_pem(key, password)


def test_the_manifest_finds_a_changed_file(run, tmp_path):
    """With `sha256sum -c`, as in the README; before the change it passes."""
    _, folder = unpacked(run, tmp_path)
    assert "report.html: OK" in shell(CHECKS[0], folder=folder)
    assert sorted([*GOES_IN, "README.txt"]) == sorted(
        line.split("  ", 1)[1] for line in (folder / "SHA256SUMS").read_text().splitlines()
    )
    (folder / "report.html").write_bytes(b"verified")
    shell(CHECKS[0], folder=folder, code=1)


@pytest.mark.parametrize("key", [private_key(2048), *EC.values()], ids=["RSA 2048", *(f"EC {name}" for name in EC)])
@pytest.mark.parametrize("password", ["", "a password"], ids=["open", "encrypted"])
def test_a_signature_is_checked_by_openssl_as_the_readme_says(run, tmp_path, monkeypatch, key, password):
    """RSA and EC; a changed manifest and another key's signature fail."""
    monkeypatch.setenv("SIGNING_PASSWORD", password)
    signing = put(tmp_path / "signing.pem", pem(key, password.encode()))
    origin = "env:SIGNING_PASSWORD" if password else ""
    packed, folder = unpacked(run, tmp_path, private_key=signing, password_from=origin)
    for command in CHECKS:
        shell(command, folder=folder)
    assert packed.signed_with in shell(FINGERPRINT, folder=folder)
    assert openssl("pkey", "-pubin", "-in", "signing-public-key.pem", folder=folder) == key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    manifest = (folder / "SHA256SUMS").read_bytes()
    (folder / "SHA256SUMS").write_bytes(manifest.replace(b"0", b"1", 1))
    shell(CHECKS[1], folder=folder, code=1)
    (folder / "SHA256SUMS").write_bytes(manifest)
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    (folder / "signing-public-key.pem").write_bytes(
        other.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    shell(CHECKS[1], folder=folder, code=1)


def test_the_zip_itself_says_the_same_commands(run, tmp_path):
    """Whoever gets only the zip needs no README of ours."""
    signing = put(tmp_path / "signing.pem", pem(private_key(2048)))
    _, folder = unpacked(run, tmp_path, private_key=signing)
    text = (folder / "README.txt").read_text()
    for command in (*CHECKS, FINGERPRINT):
        assert f"   {command}\n" in text
    assert "a separate channel" in " ".join(text.split())


@pytest.mark.parametrize(
    ("content", "password", "reason"),
    [
        (pem(private_key(1024)), "", "1024 bits; give one of at least 2048"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "", "a key of the kind Ed25519"),
        (b"-----BEGIN CERTIFICATE-----\n", "", "cannot be loaded"),
        (KNOWN, "", "cannot be loaded"),
        (pem(private_key(2048), b"right"), "", "is encrypted: give --password-from"),
        (pem(private_key(2048), b"right"), "env:SIGNING_PASSWORD", "cannot be loaded: the password is wrong"),
        (pem(private_key(2048)), "env:SIGNING_PASSWORD", "has no password: leave out --password-from"),
    ],
    ids=["small", "Ed25519", "certificate", "bytes", "encrypted", "wrong password", "needless password"],
)
def test_an_unfit_signing_key_is_refused_and_nothing_is_written(run, tmp_path, monkeypatch, content, password, reason):
    """In one line that names the file, and quotes neither key nor password."""
    monkeypatch.setenv("SIGNING_PASSWORD", "a wrong password")
    signing = put(tmp_path / "signing.pem", content)
    with pytest.raises(SigningKeyInvalid, match=re.escape(reason)) as raised:
        evidence_zip.pack(run, tmp_path / "evidence.zip", private_key=signing, password_from=password)
    assert 1 == len(str(raised.value).splitlines())
    assert "a wrong password" not in str(raised.value)
    assert not (tmp_path / "evidence.zip").exists()


# The command --------------------------------------------------------------------------------------------------------------


def runbook(tmp_path, *words):
    return CliRunner().invoke(main, ["evidence", *words, "--runs-dir", str(tmp_path / "runs")])


def test_the_command_says_what_it_packed_and_what_to_send(run, tmp_path):
    """The SHA-256 that must reach the receiver over another channel is printed: of the zip, or of the public key."""
    done = runbook(tmp_path, "demo", "--out", str(tmp_path / "a.zip"))
    assert 0 == done.exit_code, done.output
    assert sha256((tmp_path / "a.zip").read_bytes()).hexdigest() in done.output
    assert "Not signed" in done.output
    signing = put(tmp_path / "signing.pem", pem(private_key(2048)))
    done = runbook(tmp_path, "demo", "--sign", str(signing), "--out", str(tmp_path / "b.zip"))
    der = private_key(2048).public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip
    assert sha256(der).hexdigest() in done.output
    assert "separate channel" in done.output


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("nobody",), "there is no run 'nobody'"),
        (("../demo",), "not a valid run ID"),
        (("demo", "--password-from", "env:X"), "give --sign"),
        (("demo", "--sign", "k.pem", "--password-from", "hunter2"), "never the password itself"),
    ],
)
def test_wrong_usage_is_answered_in_one_line(run, tmp_path, words, reason):
    """Nothing is written, and a password that was typed on the command line is not repeated."""
    done = runbook(tmp_path, *words, "--out", str(tmp_path / "a.zip"))
    assert 0 != done.exit_code
    assert reason in done.output
    assert "hunter2" not in done.output
    assert not (tmp_path / "a.zip").exists()
