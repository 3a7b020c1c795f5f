"""Step 3 on a machine without AWS and network: what goes there, what is made there, what comes back, checked on both sides."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from openssl import openssl, private_key, private_pem, public_der, public_pem, put, shell
from unwrap import decrypt_key_material
from walk import CHECK_VALUE, KNOWN

from runbook_cli.main import main
from runbook_lib.errors import (
    ArtefactsMismatch,
    HandOverInvalid,
    ImportTokenExpired,
    WrappingKeyInvalid,
)
from runbook_lib.material import hand_over, key_material
from runbook_lib.material.key_material import KeyMaterial
from runbook_lib.material.material_set import Wrapping

ARN = "arn:aws:kms:eu-west-2:123456789012:key/0f1c2a3b-0000-4000-8000-000000000000"
NOW = datetime.now(UTC)
PAGE = "CUSTODY.0f1c2a3b-0000-4000-8000-000000000000.1a0b2d.txt"
SOON = NOW + timedelta(hours=20)


def wrapping(number=0, algorithm="RSAES_OAEP_SHA_256", arn=ARN):
    return Wrapping(public_der(private_key(2048, number)), algorithm, "RSA_2048", arn)


def unzipped(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rezipped(content, **instead):
    """Return an archive with some files exchanged, added, or (None) left out."""
    files = {**unzipped(content), **{name.replace("__", "."): new for name, new in instead.items()}}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, new in files.items():
            if new is not None:
                archive.writestr(name, new)
    return buffer.getvalue()


@pytest.fixture
def desk(tmp_path):
    """The other machine: a bundle that was brought, and a recovery public key."""
    put(tmp_path / "hand-over.zip", hand_over.make_bundle(wrapping(), valid_to=SOON))
    put(tmp_path / "recovery-public.pem", public_pem(private_key(2048, 1)))
    put(tmp_path / "material", KNOWN)
    return tmp_path


def wrap(desk, *words, code=0, key=True):
    """Run `runbook wrap` there, in this process."""
    given = ["wrap", str(desk / "hand-over.zip"), "--out", str(desk / "out"), *words]
    done = CliRunner().invoke(
        main, [*given, *(["--recovery-public-key", str(desk / "recovery-public.pem")] if key else [])]
    )
    assert code == done.exit_code, (done.output, done.exception)
    return done.output


KNOWN_MATERIAL = ("--source", "file", "--file")


# There ------------------------------------------------------------------------------------------------------------


def test_the_bundle_holds_what_is_public_and_no_token(walk):
    """The wrapping key, what it is for and until when; the import token stays with the operator."""
    walk.start().pair()
    token = (walk.path / "ImportToken.bin").read_bytes()
    files = unzipped((walk.path / "hand-over.zip").read_bytes())
    assert {"WrappingPublicKey.bin", "hand-over.json", "README.txt"} == set(files)
    assert (walk.path / "WrappingPublicKey.bin").read_bytes() == files["WrappingPublicKey.bin"]
    assert not [name for name, content in files.items() if token[:32] in content]
    facts = json.loads(files["hand-over.json"])
    pair = walk.run.record("02_get_parameters_for_import")
    assert {
        "format": 1,
        "key_arn": pair["key_arn"],
        "wrapping_key_spec": "RSA_2048",
        "wrapping_algorithm": "RSAES_OAEP_SHA_256",
        "wrapping_public_key_sha256": key_material.fingerprint(files["WrappingPublicKey.bin"]),
        "valid_to": pair["parameters_valid_to"],
    } == facts
    for fact in facts.values():
        assert str(fact) in files["README.txt"].decode()
    assert token in b"".join(unzipped(next(walk.path.glob("Import_Parameters_*.zip")).read_bytes()).values())


@pytest.mark.parametrize("custody", ["recovery_key", "split"])
def test_what_is_made_there_imports_here(walk, desk, custody):
    """Bundle out, `runbook wrap`, hand-back in: 03 and 04 take it, custody and all."""
    walk.start().pair()
    put(desk / "hand-over.zip", (walk.path / "hand-over.zip").read_bytes())
    more = ["--recovery-public-key", walk.public(2), "--custody", custody]
    told = wrap(desk, *KNOWN_MATERIAL, str(desk / "material"), *more)
    assert f"key check value {CHECK_VALUE}, custody {custody}" in told
    back = str(desk / "out" / "hand-back.zip")
    walk.encrypt(key_material_source="wrapped", key_material_file=back, custody="none")
    walk.bring_in()
    assert "Enabled" == walk.key["KeyState"]
    record = walk.run.record("03_encrypt_key_material")["custody"]
    assert (custody, CHECK_VALUE, 2) == (record["custody"], record["key_check_value"], len(record["holders"]))
    assert (desk / "out" / "custody.json").read_bytes() == (walk.path / "custody.json").read_bytes()


def test_the_pure_openssl_commands_of_its_readme_do_the_same(walk, desk):
    """Executed as they are written, on a machine that has nothing else; the copy opens with the recovery key."""
    walk.start().pair()
    put(desk / "hand-over.zip", (walk.path / "hand-over.zip").read_bytes())
    for name, content in unzipped((desk / "hand-over.zip").read_bytes()).items():
        put(desk / name, content)
    readme = (desk / "README.txt").read_text()
    commands = re.search(r"^umask 077\n(?:.+\n)+", readme, re.M)[0]
    told = shell(commands, folder=desk)
    assert json.loads((desk / "hand-over.json").read_text())["wrapping_public_key_sha256"] in told
    assert not (desk / "PlaintextKeyMaterial.bin").exists()
    assert 0o600 == stat.S_IMODE((desk / "EncryptedKeyMaterial.bin").stat().st_mode)
    walk.encrypt(
        key_material_source="wrapped", key_material_file=str(desk / "EncryptedKeyMaterial.bin"), custody="none"
    )
    walk.bring_in()
    put(desk / "private.pem", private_pem(private_key(2048, 1)))
    options = [
        w for o in ("rsa_padding_mode:oaep", "rsa_oaep_md:sha256", "rsa_mgf1_md:sha256") for w in ("-pkeyopt", o)
    ]
    openssl("pkeyutl", "-decrypt", "-in", next(desk.glob("KeyMaterial.recovery.*.bin")).name, "-out", "m", "-inkey", "private.pem",
            *options, folder=desk)  # fmt: skip
    walk.delete_material()
    (desk / "m").chmod(0o600)
    done = CliRunner().invoke(main, ["recover", "demo", "--file", str(desk / "m"), "--runs-dir", str(walk.folder)])
    assert "verified" in done.output, done.output


WATCH = """
import sys
NAMES = ("socket.", "urllib.", "http.client.")
def watch(event, arguments):
    if event.startswith(NAMES):
        raise SystemExit(f"a socket: {event} {arguments}")
sys.addaudithook(watch)
"""


def watched(code, *words):
    """Run code in a new process in which any use of a socket is the end."""
    return subprocess.run([sys.executable, "-c", WATCH + code, *words], capture_output=True, text=True, check=False)


def test_wrapping_opens_no_socket_and_loads_no_aws(desk):
    """Nothing to switch off: the command never tries, and boto3 is not even imported."""
    code = """
from runbook_cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print([name for name in ("boto3", "botocore", "requests", "urllib3") if name in sys.modules])
"""
    done = watched(
        code, "wrap", str(desk / "hand-over.zip"), "--out", str(desk / "out"),
        "--recovery-public-key", str(desk / "recovery-public.pem"),
    )  # fmt: skip
    assert (0, "[]") == (done.returncode, done.stdout.splitlines()[-1]), done.stderr
    assert (desk / "out" / "hand-back.zip").is_file()


def test_the_watch_would_have_seen_a_socket():
    """The twin of the last test."""
    assert "a socket: socket.__new__" in watched("import socket\nsocket.socket()").stderr
    assert "a socket: socket.getaddrinfo" in watched("import socket\nsocket.getaddrinfo('localhost', 80)").stderr


def test_what_is_left_there_is_for_its_owner_only_whatever_the_umask(desk):
    """Folder 0700, files 0600, and nothing in clear among them."""
    before = os.umask(0)
    try:
        wrap(desk, *KNOWN_MATERIAL, str(desk / "material"))
    finally:
        os.umask(before)
    assert 0o700 == stat.S_IMODE((desk / "out").stat().st_mode)
    for path in (desk / "out").iterdir():
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
        assert KNOWN not in path.read_bytes()


@pytest.mark.parametrize(
    ("words", "key", "code", "said"),
    [
        ((), False, 1, "no recovery public key was given"),
        (("--custody", "none"), False, 2, "accept_no_custody"),
        (("--custody", "split"), True, 2, "1 key is not enough"),
        (("--source", "file"), True, 2, "key_material_file"),
        (("--custody", "hsm"), False, 2, "is not possible with"),
    ],
)
def test_nothing_is_made_there_that_nobody_keeps(desk, words, key, code, said):
    """Each refusal before anything is written."""
    assert said in wrap(desk, *words, code=code, key=key)
    assert not (desk / "out").exists()


def test_a_private_key_is_not_taken_for_a_recovery_key(desk):
    """It belongs to its holder alone."""
    put(desk / "recovery-public.pem", private_pem(private_key(2048, 1)))
    assert "is a private key" in wrap(desk, code=1)


def test_an_existing_folder_is_not_written_into(desk):
    """What lies there may be the only copy of another material."""
    wrap(desk)
    before = (desk / "out" / "custody.json").read_bytes()
    assert "give --out a new folder" in wrap(desk, code=1)
    assert before == (desk / "out" / "custody.json").read_bytes()


def test_the_same_ceremony_without_custody_if_that_is_accepted(desk):
    """The original is kept elsewhere: the record says so."""
    told = wrap(desk, *KNOWN_MATERIAL, str(desk / "material"), "--custody", "none", "--accept-no-custody", key=False)
    assert "custody none" in told
    assert {"EncryptedKeyMaterial.bin", PAGE, "custody.json", "hand-back.zip"} == set(os.listdir(desk / "out"))


# Both sides check -----------------------------------------------------------------------------------------------


def facts(**instead):
    told = json.loads(unzipped(hand_over.make_bundle(wrapping(), valid_to=SOON))["hand-over.json"])
    return json.dumps({**told, **instead})


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"WrappingPublicKey__bin": public_der(private_key(2048, 5))}, HandOverInvalid, "not the one that hand-over.json"),
        ({"WrappingPublicKey__bin": None}, HandOverInvalid, "contains no WrappingPublicKey.bin"),
        ({"hand-over__json": None}, HandOverInvalid, "contains no hand-over.json"),
        ({"hand-over__json": "{"}, HandOverInvalid, "damaged"),
        ({"hand-over__json": facts(format=2)}, HandOverInvalid, "format 2"),
        ({"hand-over__json": facts(wrapping_key_spec="RSA_512")}, HandOverInvalid, "wrong: wrapping_key_spec"),
        ({"hand-over__json": facts(valid_to="soon")}, HandOverInvalid, "damaged"),
        ({"hand-over__json": facts(wrapping_algorithm="RSAES_PKCS1_V1_5")}, WrappingKeyInvalid, "2023-10-10"),
        ({"hand-over__json": facts(valid_to=(NOW - timedelta(hours=1)).isoformat())}, ImportTokenExpired, "valid until"),
        ({"folder/x": b"x"}, HandOverInvalid, "contains folders"),
        ({"big": b"x" * 2**20}, HandOverInvalid, "larger than"),
    ],
)  # fmt: skip
def test_a_bundle_that_is_not_whole_is_refused_there(change, error, said):
    """Fingerprint, spec, algorithm, date, shape."""
    bundle = hand_over.make_bundle(wrapping(), valid_to=SOON)
    assert wrapping() == hand_over.read_bundle(bundle, now=NOW).wrapping
    with pytest.raises(error, match=said):
        hand_over.read_bundle(rezipped(bundle, **change), now=NOW)


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"noise", hand_over.make_bundle(wrapping(), valid_to=SOON)[:-40]]
)
def test_a_bundle_that_was_cut_off_is_refused(content):
    """In one line, never with a traceback."""
    with pytest.raises(HandOverInvalid, match="not a complete zip"):
        hand_over.read_bundle(content, now=NOW)


def back_of(desk):
    wrap(desk, *KNOWN_MATERIAL, str(desk / "material"))
    return (desk / "out" / "hand-back.zip").read_bytes()


def test_what_came_back_whole_is_taken(desk):
    """The set, byte for byte, opens with the private wrapping key to the material that was brought."""
    taken = hand_over.read_hand_back(back_of(desk), wrapping())
    opened = decrypt_key_material(
        taken.files["EncryptedKeyMaterial.bin"], private_key=private_key(2048), wrapping_algorithm="RSAES_OAEP_SHA_256"
    )
    assert KeyMaterial(KNOWN) == opened
    assert (desk / "out" / "custody.json").read_bytes() == taken.manifest


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"EncryptedKeyMaterial__bin": os.urandom(256)}, HandOverInvalid, "was changed"),
        ({PAGE: b"x"}, HandOverInvalid, "was changed"),
        ({PAGE: None}, HandOverInvalid, f"differ in {PAGE}"),
        ({"KeyMaterial__recovery-1__bin": b"x"}, HandOverInvalid, "differ in KeyMaterial.recovery-1.bin"),
        ({"EncryptedKeyMaterial__bin": None}, HandOverInvalid, "contains no EncryptedKeyMaterial.bin"),
        ({"state__json": b"{}"}, HandOverInvalid, "contains an unexpected file, 'state.json'"),
        ({"PlaintextKeyMaterial__bin": KNOWN}, HandOverInvalid, "contains an unexpected file"),
        ({"custody__json": b"[]"}, ArtefactsMismatch, "damaged"),
    ],
)
def test_what_came_back_changed_is_refused_here(desk, change, error, said):
    """A file more, a file less, another file: each is named, and state.json can't be smuggled in."""
    with pytest.raises(error, match=said):
        hand_over.read_hand_back(rezipped(back_of(desk), **change), wrapping())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("custody", "custody"), "nobody"),
        (("custody", "holders"), [{"file": 1}]),
        (("custody", "key_check_value"), "not hex"),
        (("custody", "made_at"), None),
        (("key_arn",), 7),
    ],
)
def test_a_custody_record_of_another_shape_is_refused_here(desk, path, value):
    """What reads it later need not ask again."""
    content = back_of(desk)
    told = json.loads(unzipped(content)["custody.json"])
    inner = told
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    with pytest.raises(ArtefactsMismatch, match=r"custody\.json is damaged"):
        hand_over.read_hand_back(rezipped(content, custody__json=json.dumps(told)), wrapping())


def test_what_was_made_for_another_pair_or_key_is_refused_here(desk):
    """The operator fetched again, or mixed two runs."""
    content = back_of(desk)
    with pytest.raises(ArtefactsMismatch, match="another wrapping key"):
        hand_over.read_hand_back(content, wrapping(5))
    with pytest.raises(ArtefactsMismatch, match="this run's key is"):
        hand_over.read_hand_back(content, wrapping(arn=ARN.replace("0f1c", "ffff")))


def test_the_archives_unpack_to_files_for_their_owner(desk):
    """`unzip` keeps 0600."""
    for content in (back_of(desk), (desk / "hand-over.zip").read_bytes()):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            assert {0o600} == {entry.external_attr >> 16 & 0o777 for entry in archive.infolist()}
            assert not [entry for entry in archive.infolist() if Path(entry.filename).name != entry.filename]
