"""Custody: who keeps the original, that openssl alone gets it back, and that nobody else does."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from openssl import openssl, private_key, private_pem, public_der, public_pem, put, shell

from runbook_lib.errors import (
    EncryptedKeyMaterialInvalid,
    KeyMaterialLength,
    RecoveryKeyInvalid,
    RecoverySourceInvalid,
)
from runbook_lib.inputs.kms import EncryptKeyMaterialInputs
from runbook_lib.material import recovery_copies, recovery_keys
from runbook_lib.material.key_material import RSAES_OAEP_SHA_256, KeyMaterial, oaep
from runbook_lib.material.material_set import Wrapping
from runbook_lib.material.sources import make_set

KNOWN = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
ARN = "arn:aws:kms:eu-west-2:123456789012:key/0f1c2a3b-0000-4000-8000-000000000000"
WHEN = datetime(2026, 11, 24, 12, tzinfo=UTC)


def made(tmp_path, keys, **choices):
    """Make a set from the known material, with custody for `keys`; return it with its files in a folder."""
    inputs = EncryptKeyMaterialInputs.check(
        {"key_material_source": "file", "key_material_file": str(put(tmp_path / "material", KNOWN)), **choices}
    )
    wrapping = Wrapping(public_der(private_key(2048, 9)), "RSAES_OAEP_SHA_256", "RSA_2048", ARN)
    found = make_set(inputs.request(), wrapping, recovery_public_keys=[public_pem(key) for key in keys], now=WHEN)
    folder = tmp_path / "set"
    folder.mkdir(mode=0o700)
    for name, content in found.files.items():
        put(folder / name, content)
    return found, folder


LABEL = "0f1c2a3b-0000-4000-8000-000000000000.1a0b2d"


def page(found):
    """Return the custody text of a set."""
    (name,) = [name for name in found.files if name.startswith("CUSTODY.")]
    return found.files[name].decode()


def commands(readme):
    """Return the openssl commands that the page documents, in order."""
    return re.findall(r"^openssl pkeyutl -decrypt (?:.*\\\n)*.*$", readme, re.M)


# Copies for recovery keys ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_a_copy_opens_with_openssl_alone_by_the_command_that_custody_txt_documents(tmp_path, bits):
    """Getting the original back depends on no software of ours."""
    found, folder = made(tmp_path, [private_key(bits)])
    put(folder / "recovery-private.pem", private_pem(private_key(bits)))
    (command,) = commands(page(found))
    shell("umask 077\n" + command, folder=folder)
    assert KNOWN == (folder / "PlaintextKeyMaterial.bin").read_bytes()


def test_the_page_also_tells_how_to_see_that_it_is_the_right_one(tmp_path):
    """The documented check prints the recorded key check value, and another for other material."""
    found, folder = made(tmp_path, [private_key(2048)])
    readme = page(found)
    (check,) = re.findall(r"^hexkey=.*\n.*$", readme, re.M)
    put(folder / "PlaintextKeyMaterial.bin", KNOWN)
    assert shell(check, folder=folder).strip() == "1A0B2D"
    assert "must be 1A0B2D" in readme
    put(folder / "PlaintextKeyMaterial.bin", bytes(range(32)))
    assert shell(check, folder=folder).strip() == "377822"


def test_the_page_tells_which_private_key_opens_a_file(tmp_path):
    """The fingerprint in record and page is the one that openssl computes from the private key."""
    found, folder = made(tmp_path, [private_key(2048)])
    put(folder / "recovery-private.pem", private_pem(private_key(2048)))
    (which,) = re.findall(r"^openssl pkey .*$", page(found), re.M)
    (holder,) = found.record.holders
    assert holder.recovery_key_sha256 in shell(which, folder=folder)
    assert holder.file == f"KeyMaterial.recovery-{holder.recovery_key_sha256[:8]}.{LABEL}.bin"


def test_another_key_and_a_damaged_copy_do_not_open(tmp_path):
    """The twins, for openssl and for us."""
    found, folder = made(tmp_path, [private_key(2048)])
    put(folder / "recovery-private.pem", private_pem(private_key(2048, 1)))
    (command,) = commands(page(found))
    shell(command, folder=folder, code=1)
    (name,) = [name for name in found.files if name.startswith("KeyMaterial.")]
    content = found.files[name]
    for wrong, key in ((content, private_key(2048, 1)), (content[:-1], private_key(2048)), (b"", private_key(2048))):
        with pytest.raises(EncryptedKeyMaterialInvalid, match="for another recovery key, or damaged"):
            recovery_copies.open_copy(wrong, key)
    assert KeyMaterial(KNOWN) == recovery_copies.open_copy(content, private_key(2048))


def test_a_file_that_decrypts_to_31_bytes_is_named_by_its_length(tmp_path):
    """The recovery key is right and the content is not: the error does not blame the key."""
    content = private_key(2048).public_key().encrypt(KNOWN[:31], oaep(RSAES_OAEP_SHA_256))
    with pytest.raises(KeyMaterialLength, match="this is 31"):
        recovery_copies.open_copy(content, private_key(2048))


def test_a_copy_that_openssl_made_opens_here(tmp_path):
    """The other way round: a copy made by hand, with the commands of the hand-over page."""
    put(tmp_path / "m", KNOWN)
    put(tmp_path / "public.pem", public_pem(private_key(3072)))
    openssl(
        "pkeyutl", "-encrypt", "-in", "m", "-out", "copy.bin", "-inkey", "public.pem", "-pubin",
        "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256", "-pkeyopt", "rsa_mgf1_md:sha256",
        folder=tmp_path,
    )  # fmt: skip
    assert KeyMaterial(KNOWN) == recovery_copies.open_copy((tmp_path / "copy.bin").read_bytes(), private_key(3072))


def test_each_holder_has_a_file_and_a_line_in_the_record(tmp_path):
    """One copy per recovery key; each opens with its own key and with no other."""
    keys = [private_key(2048), private_key(2048, 1), private_key(3072)]
    found, _ = made(tmp_path, keys)
    holders = found.record.holders
    assert 3 == len(holders) == len(commands(page(found)))
    for holder, key in zip(holders, keys, strict=True):
        assert KeyMaterial(KNOWN) == recovery_copies.open_copy(found.files[holder.file], key)
    with pytest.raises(EncryptedKeyMaterialInvalid):
        recovery_copies.open_copy(found.files[holders[0].file], keys[1])


def test_the_record_is_this_and_holds_no_secret(tmp_path):
    """Who holds what, since when, under which algorithm."""
    found, _ = made(tmp_path, [private_key(2048)])
    fingerprint = recovery_keys.key_fingerprint(private_key(2048).public_key())
    assert {
        "custody": "recovery_key",
        "source": "file",
        "key_check_value": "1a0b2d",
        "made_at": "2026-11-24T12:00:00+00:00",
        "holders": [
            {
                "file": f"KeyMaterial.recovery-{fingerprint[:8]}.{LABEL}.bin",
                "recovery_key_sha256": fingerprint,
                "algorithm": "RSAES_OAEP_SHA_256",
                "training_only": False,
            }
        ],
    } == found.record.to_json()
    for content in (found.manifest, *found.files.values()):
        assert KNOWN not in content
        assert KNOWN.hex().encode() not in content.lower()
    assert KNOWN.hex() not in repr(found)


def test_a_training_key_says_what_it_is(tmp_path):
    """In the key, in the record and on the page; openssl reads it all the same."""
    private, public = recovery_keys.make_training_recovery_key()
    assert private.startswith(b"TRAINING ONLY")
    wrapping = Wrapping(public_der(private_key(2048, 9)), "RSAES_OAEP_SHA_256", "RSA_2048", ARN)
    found = make_set(EncryptKeyMaterialInputs.check({}).request(), wrapping, recovery_public_keys=[public], now=WHEN)
    assert [True] == [holder.training_only for holder in found.record.holders]
    assert "TRAINING ONLY: protects nothing real" in page(found)
    put(tmp_path / "recovery-private.pem", private)
    for name, content in found.files.items():
        put(tmp_path / name, content)
    shell(commands(page(found))[0], folder=tmp_path)
    opened = KeyMaterial.from_file(put(tmp_path / "o", (tmp_path / "PlaintextKeyMaterial.bin").read_bytes()))
    assert found.record.key_check_value == opened.key_check_value


# Recovery keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pem", "words"),
    [
        (lambda: private_pem(private_key(2048)), "is a private key"),
        (lambda: public_der(private_key(2048)), "PEM form but DER; convert it: openssl rsa -pubin -inform DER"),
        (lambda: b"", "not a valid public key in PEM form"),
        (lambda: public_pem(private_key(1024)), "RSA key of at least 2048 bits"),
    ],
    ids=["private", "der", "empty", "small"],
)
def test_what_is_no_recovery_public_key_is_refused(pem, words):
    """A private key above all: it does not belong here."""
    with pytest.raises(RecoveryKeyInvalid, match=words):
        recovery_keys.load_recovery_public_key(pem())


def test_the_same_recovery_key_twice_is_refused():
    """The second copy would protect nothing further."""
    pem = public_pem(private_key(2048))
    with pytest.raises(RecoveryKeyInvalid, match="given 2 times"):
        recovery_keys.load_recovery_public_keys([pem, public_pem(private_key(2048, 1)), b"another name\n" + pem])


@pytest.mark.parametrize(
    ("stored", "given", "words"),
    [
        (b"secret", None, "it is encrypted: set recovery_password_from"),
        (b"secret", "wrong", "the password is wrong"),
        (b"", "secret", "it has no password: leave recovery_password_from"),
    ],
)
def test_a_private_key_and_its_password_must_fit(stored, given, words):
    """Each case in its own words; the password is never quoted."""
    with pytest.raises(RecoveryKeyInvalid, match=words) as refused:
        recovery_keys.load_recovery_private_key(private_pem(private_key(2048), stored), password=given)
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


# Components ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, 3, 5])
def test_components_together_are_the_material(number):
    """In any order; each has a key check value of its own."""
    parts = recovery_copies.split(KeyMaterial(KNOWN), number)
    assert number == len({part.key_check_value for part in parts})
    assert KeyMaterial(KNOWN) == recovery_copies.combine(parts)
    assert KeyMaterial(KNOWN) == recovery_copies.combine(parts[::-1])


def test_all_components_but_one_are_not_the_material():
    """The twin: whoever lacks one has nothing; the last is as random as the others."""
    parts = recovery_copies.split(KeyMaterial(KNOWN), 3)
    assert KeyMaterial(KNOWN) != recovery_copies.combine(parts[:2])
    assert bytes(parts[2]) != bytes(recovery_copies.split(KeyMaterial(KNOWN), 3)[2])


@pytest.mark.parametrize("number", [0, 1, 10])
def test_a_senseless_number_of_components_is_refused(number):
    """Two to nine."""
    with pytest.raises(RecoveryKeyInvalid, match="2 to 9"):
        recovery_copies.split(KeyMaterial(KNOWN), number)


def test_a_component_brought_twice_or_alone_is_refused():
    """What would silently give other bytes is said."""
    parts = recovery_copies.split(KeyMaterial(KNOWN), 2)
    with pytest.raises(RecoverySourceInvalid, match="not all of them"):
        recovery_copies.combine(parts[:1])
    with pytest.raises(RecoverySourceInvalid, match="provided twice"):
        recovery_copies.combine([parts[0], parts[1], parts[0]])


def test_custodians_get_the_material_back_by_the_page_alone(tmp_path):
    """Each opens a component with openssl, and the documented line puts them together."""
    keys = [private_key(2048), private_key(2048, 1), private_key(3072)]
    found, folder = made(tmp_path, keys, custody="split")
    readme = page(found)
    for key, command in zip(keys, commands(readme), strict=True):
        put(folder / "recovery-private.pem", private_pem(key))
        shell("umask 077\n" + command, folder=folder)
    (together,) = re.findall(r"^python3 -c '(?:.*\n)+?.*component-\*\.bin > .*$", readme, re.M)
    shell("umask 077\n" + together, folder=folder)
    assert KNOWN == (folder / "PlaintextKeyMaterial.bin").read_bytes()
    for number, holder in enumerate(found.record.holders, 1):
        part = KeyMaterial.from_file(folder / f"component-{number}.bin")
        assert part.key_check_value == holder.component_check_value
        assert part.key_check_value in readme
