"""Key material in memory: what is taken, what is refused, and what of it is ever shown."""

from __future__ import annotations

import base64
import copy
import os
import pickle
import socket

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from unwrap import decrypt_key_material

from runbook_lib.errors import (
    EncryptedKeyMaterialInvalid,
    KeyMaterialEncoded,
    KeyMaterialLength,
    PrivateFileUnsafe,
    WrappingKeyInvalid,
)
from runbook_lib.material import key_material
from runbook_lib.material.key_material import KeyMaterial

# AES-CMAC over one zero block, as `openssl mac -cipher AES-256-CBC -macopt hexkey:… CMAC` gives it.
CHECK_VALUES = {
    "00" * 32: "921105",
    bytes(range(32)).hex(): "377822",
    "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4": "1a0b2d",  # the key of NIST SP 800-38B, D.3
}
KNOWN = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")


@pytest.fixture(scope="module")
def private_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def public_der(private_key):
    return der(private_key)


def der(private_key):
    return private_key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def put(path, content, mode=0o600):
    path.write_bytes(content)
    path.chmod(mode)
    return path


# What it is recognised by -------------------------------------------------------------------------------


@pytest.mark.parametrize(("material", "value"), CHECK_VALUES.items())
def test_the_key_check_value_is_aes_cmac_over_a_zero_block(material, value):
    """AWS Payment Cryptography's definition for AES: the first three bytes."""
    assert value == KeyMaterial(bytes.fromhex(material)).key_check_value


def test_another_material_has_another_key_check_value():
    """The twin: one flipped bit shows."""
    flipped = bytearray(KNOWN)
    flipped[-1] ^= 1
    assert "1a0b2d" != KeyMaterial(flipped).key_check_value


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r}".format, lambda value: f"{[value]}"])
def test_only_the_key_check_value_is_ever_shown(show):
    """However it is printed, the bytes do not appear."""
    shown = show(KeyMaterial(KNOWN))
    assert "KeyMaterial(256 bits, key check value 1a0b2d)" in shown
    assert KNOWN.hex() not in shown


@pytest.mark.parametrize("leak", [pickle.dumps, copy.copy, copy.deepcopy, lambda m: m.__getstate__(), vars, hash])
def test_it_is_not_copied_pickled_or_hashed(leak):
    """Nothing that serialises objects takes it along."""
    with pytest.raises(TypeError):
        leak(KeyMaterial(KNOWN))


def test_it_equals_itself_only():
    """Same bytes are equal, others and other types are not."""
    assert KeyMaterial(KNOWN) == KeyMaterial(KNOWN)
    assert KeyMaterial(KNOWN) != KeyMaterial(bytes(range(32)))
    assert KeyMaterial(KNOWN) != KNOWN


def test_generated_material_is_32_bytes_and_never_the_same():
    """256 bits from the operating system."""
    first, second = KeyMaterial.generate(), KeyMaterial.generate()
    assert (32, True) == (len(bytes(first)), first != second)


def test_overwritten_material_cannot_be_used_by_mistake(public_der):
    """Zeros are never encrypted in place of a key."""
    content = bytearray(KNOWN)
    with KeyMaterial(content) as material:
        assert bytes(32) == content
        assert KNOWN == bytes(material)
    assert "KeyMaterial(overwritten)" == repr(material)
    for use in (
        bytes,
        lambda one: one.key_check_value,
        lambda one: key_material.encrypt_key_material(
            one, wrapping_public_key=public_der, wrapping_algorithm="RSAES_OAEP_SHA_256"
        ),
    ):
        with pytest.raises(ValueError, match="generate or open it again"):
            use(material)


# From a file ---------------------------------------------------------------------------------------------


def test_a_file_of_32_bytes_is_taken(tmp_path):
    """Raw bytes, mode 0600 or stricter."""
    assert KeyMaterial(KNOWN) == KeyMaterial.from_file(put(tmp_path / "m", KNOWN))
    assert KeyMaterial(KNOWN) == KeyMaterial.from_file(put(tmp_path / "n", KNOWN, 0o400))


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("hex", KNOWN.hex().encode()),
        ("hex", KNOWN.hex(" ").upper().encode() + b"\n"),
        ("base64", base64.b64encode(KNOWN)),
        ("base64", base64.encodebytes(KNOWN)),
        ("base64", base64.urlsafe_b64encode(KNOWN).rstrip(b"=")),
        ("base64", b"\xef\xbb\xbf" + base64.b64encode(KNOWN) + b"\r\n"),
    ],
)
def test_hex_and_base64_are_taken_by_explicit_choice(tmp_path, encoding, content):
    """White space and a last line feed, which text tools add, do not matter."""
    assert KeyMaterial(KNOWN) == KeyMaterial.from_file(put(tmp_path / "m", content), encoding=encoding)


@pytest.mark.parametrize("length", [0, 1, 16, 31, 33, 64, 5000])
def test_any_other_length_is_refused(tmp_path, length):
    """Exactly 32 bytes; the message names the rule and the length found."""
    with pytest.raises(KeyMaterialLength, match=f"exactly 32 bytes .256 bits., this is {length}"):
        KeyMaterial.from_file(put(tmp_path / "m", b"\x80" * length))


def test_a_line_feed_at_the_end_is_pointed_out(tmp_path):
    """The classic: a text editor or echo added a byte."""
    with pytest.raises(KeyMaterialLength, match="its last byte is a line feed"):
        KeyMaterial.from_file(put(tmp_path / "m", KNOWN + b"\n"))


@pytest.mark.parametrize(
    ("content", "encoding", "advice"),
    [
        (base64.b64encode(KNOWN), "binary", "looks like base64 text .44 bytes.*key_material_encoding: base64"),
        (KNOWN.hex().encode(), "binary", "looks like hex text .64 bytes.*key_material_encoding: hex"),
        (KNOWN.hex().encode()[:32], "binary", "32 bytes are text"),
        (b"correct horse battery staple 123", "binary", "can be guessed"),
        (bytes(32), "binary", "can be guessed"),
        (KNOWN, "hex", "is not hex"),
        (KNOWN, "base64", "is not base64"),
        (KNOWN.hex().encode()[:-1], "hex", "is not hex"),
        (base64.urlsafe_b64encode(b"\xff" * 32), "base64", "can be guessed"),
    ],
)
def test_text_in_place_of_bytes_is_refused_with_the_way_out(tmp_path, content, encoding, advice):
    """Base64 in place of binary, the most common mistake, is named; nothing of the content is quoted."""
    with pytest.raises(KeyMaterialEncoded, match=advice) as refused:
        KeyMaterial.from_file(put(tmp_path / "m", content), encoding=encoding)
    assert content.decode("latin-1") not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601])
def test_a_file_that_others_may_read_is_refused(tmp_path, mode):
    """The message names the file, its mode, and the command that mends it."""
    path = put(tmp_path / "m", KNOWN, mode)
    with pytest.raises(PrivateFileUnsafe, match=f"mode {mode:04o}.*chmod 600 {path}"):
        KeyMaterial.from_file(path)


def test_what_is_no_regular_file_is_refused(tmp_path):
    """Links, folders, pipes, sockets and absent files: one line each, and no waiting on a pipe."""
    put(tmp_path / "m", KNOWN)
    (tmp_path / "link").symlink_to(tmp_path / "m")
    (tmp_path / "folder").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    for name in ("link", "folder", "pipe", "socket", "absent"):
        with pytest.raises(PrivateFileUnsafe, match=name):
            KeyMaterial.from_file(tmp_path / name)


# Wrapping --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", key_material.WRAPPING_ALGORITHMS)
def test_wrapped_material_opens_with_the_private_key(private_key, public_der, algorithm):
    """As long as the wrapping key, and the same bytes on the other side."""
    wrapped = key_material.encrypt_key_material(
        KeyMaterial(KNOWN), wrapping_public_key=public_der, wrapping_algorithm=algorithm
    )
    assert 256 == len(wrapped)
    opened = decrypt_key_material(wrapped, private_key=private_key, wrapping_algorithm=algorithm)
    assert KeyMaterial(KNOWN) == opened


def test_what_should_not_open_does_not(private_key, public_der):
    """The twins: another key, another hash, a byte less, a byte changed, or 31 bytes inside."""
    wrapped = key_material.encrypt_key_material(
        KeyMaterial(KNOWN), wrapping_public_key=public_der, wrapping_algorithm="RSAES_OAEP_SHA_256"
    )
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for content, key, algorithm in (
        (wrapped, other, "RSAES_OAEP_SHA_256"),
        (wrapped, private_key, "RSAES_OAEP_SHA_1"),
        (wrapped[:-1], private_key, "RSAES_OAEP_SHA_256"),
        (wrapped[:-1] + bytes([wrapped[-1] ^ 1]), private_key, "RSAES_OAEP_SHA_256"),
    ):
        with pytest.raises(EncryptedKeyMaterialInvalid, match="does not open"):
            decrypt_key_material(content, private_key=key, wrapping_algorithm=algorithm)
    short = private_key.public_key().encrypt(KNOWN[:31], key_material.oaep("RSAES_OAEP_SHA_256"))
    with pytest.raises(KeyMaterialLength, match="this is 31"):
        decrypt_key_material(short, private_key=private_key, wrapping_algorithm="RSAES_OAEP_SHA_256")


@pytest.mark.parametrize(
    ("algorithm", "reason"),
    [
        ("RSAES_PKCS1_V1_5", "not supported it since 2023-10-10"),
        ("RSA_AES_KEY_WRAP_SHA_256", "wraps private keys"),
        ("RSA_AES_KEY_WRAP_SHA_1", "wraps private keys"),
        ("SM2PKE", "China Regions only"),
        ("RSAES_OAEP_SHA_512", "unknown"),
    ],
)
def test_other_wrapping_algorithms_are_refused_with_the_reason(public_der, algorithm, reason):
    """Explained, not selectable."""
    with pytest.raises(WrappingKeyInvalid, match=reason):
        key_material.encrypt_key_material(
            KeyMaterial(KNOWN), wrapping_public_key=public_der, wrapping_algorithm=algorithm
        )


def test_a_wrapping_key_is_an_rsa_public_key_in_der_of_the_size_asked_for(private_key, public_der):
    """PEM, noise, elliptic curves, odd sizes and the wrong spec are refused, each in its own words."""
    assert 2048 == key_material.load_wrapping_public_key(public_der, wrapping_key_spec="RSA_2048").key_size
    pem = private_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for content, spec, words in (
        (pem, None, "PEM text"),
        (b"noise", None, "not a valid public key in DER form"),
        (public_der[:-1], None, "not a valid public key in DER form"),
        (der(ec.generate_private_key(ec.SECP256R1())), None, "not an RSA key"),
        (der(rsa.generate_private_key(public_exponent=65537, key_size=1024)), None, "not an RSA key"),  # noqa: S505
        (public_der, "RSA_4096", "has 2048 bits, RSA_4096 was requested"),
    ):
        with pytest.raises(WrappingKeyInvalid, match=words):
            key_material.load_wrapping_public_key(content, wrapping_key_spec=spec)


@pytest.mark.parametrize(("spec", "size"), [("RSA_2048", 256), ("RSA_3072", 384), ("RSA_4096", 512)])
def test_encrypted_material_has_the_size_of_its_wrapping_key(spec, size):
    """The one thing that can be seen from outside; base64 is told apart from a cut-off file."""
    key_material.check_encrypted_key_material(os.urandom(size), wrapping_key_spec=spec)
    for wrong in (0, size - 1, size + 1):
        with pytest.raises(EncryptedKeyMaterialInvalid, match=f"has {wrong} bytes, {spec} yields {size}"):
            key_material.check_encrypted_key_material(os.urandom(wrong), wrapping_key_spec=spec)
    with pytest.raises(KeyMaterialEncoded, match="is base64 text"):
        key_material.check_encrypted_key_material(base64.encodebytes(os.urandom(size)), wrapping_key_spec=spec)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bytes(range(256)).hex().encode(), "is hex text, KMS accepts bytes only; decode it: xxd -r -p"),
        (bytes(range(256)).hex().upper().encode() + b"\n", "decode it: xxd -r -p"),
        (b"aB" * 128 + b"\n" + b"19" * 128, "decode it: xxd -r -p"),
        (b"Zm9v" * 86, "decode it: openssl base64 -d -A"),
        (b"Zm9v" * 86 + b"\n", "decode it: openssl base64 -d -A"),
        (b"Zm9v" * 43 + b"\n" + b"Zm9v" * 43, "decode it: openssl base64 -d"),
        (b"Zm-_" * 86, "decode it: tr -- -_ +/ | openssl base64 -d -A"),
        (b"ab" * 255, "decode it: openssl base64 -d -A"),
    ],
)
def test_encoded_ciphertext_is_named_with_the_command_that_decodes_it(content, said):
    """Hex has exactly twice the size; base64 in one line needs -A, the alphabet of URLs another one first."""
    with pytest.raises(KeyMaterialEncoded) as refused:
        key_material.check_encrypted_key_material(content, wrapping_key_spec="RSA_2048")
    assert str(refused.value).endswith(said)


@pytest.mark.parametrize(("spec", "size"), [("RSA_2048", 256), ("RSA_3072", 384), ("RSA_4096", 512)])
def test_the_ciphertext_has_the_wrapping_keys_size(spec, size):
    """One byte less or more is named with both numbers."""
    key_material.check_encrypted_key_material(b"\xff" * size, wrapping_key_spec=spec)
    for other in (size - 1, size + 1, 0):
        with pytest.raises(EncryptedKeyMaterialInvalid, match=f"has {other} bytes, {spec} yields {size};"):
            key_material.check_encrypted_key_material(b"\xff" * other, wrapping_key_spec=spec)


@pytest.mark.parametrize("step", [1, 7, 255])
def test_bytes_that_count_past_255_can_be_guessed(tmp_path, step):
    """Up or down, from anywhere; the twin has one byte that is not counted."""
    counted = bytearray((240 + step * place) % 256 for place in range(32))
    file = put(tmp_path / "counted", bytes(counted))
    with pytest.raises(KeyMaterialEncoded, match="can be guessed"):
        KeyMaterial.from_file(file)
    counted[20] ^= 0x40
    assert bytes(counted) == bytes(KeyMaterial.from_file(put(file, bytes(counted))))


def test_the_fingerprint_is_sha_256():
    """FIPS 180's vector of `abc`."""
    assert "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" == key_material.fingerprint(b"abc")


def test_a_wrapping_key_in_pem_form_is_named_also_after_a_blank_line():
    """KMS returns DER."""
    for pem in (b"-----BEGIN PUBLIC KEY-----\n", b"\n  -----BEGIN PUBLIC KEY-----\n"):
        with pytest.raises(WrappingKeyInvalid, match="is PEM text"):
            key_material.load_wrapping_public_key(pem)


@pytest.mark.parametrize(("different", "guessed"), [(11, True), (12, False)])
def test_fewer_than_twelve_different_bytes_can_be_guessed(tmp_path, different, guessed):
    """Neither text, nor counted, nor repeated: only their number decides."""
    values = bytes((place * place * 7 + 128) % 256 for place in range(different))
    content = (values * 3)[:31] + values[:1]
    assert different == len(set(content))
    file = put(tmp_path / "few", content)
    if guessed:
        with pytest.raises(KeyMaterialEncoded, match="can be guessed"):
            KeyMaterial.from_file(file)
    else:
        assert content == bytes(KeyMaterial.from_file(file))


def test_a_repeated_half_can_be_guessed(tmp_path):
    """Sixteen random bytes twice are 128 bits; the twin differs in the last bit."""
    half = KNOWN[:16]
    with pytest.raises(KeyMaterialEncoded, match="can be guessed"):
        KeyMaterial.from_file(put(tmp_path / "twice", half + half))
    other = half + half[:15] + bytes([half[15] ^ 1])
    assert other == bytes(KeyMaterial.from_file(put(tmp_path / "twice", other)))
