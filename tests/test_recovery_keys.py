"""Recovery keys: what is taken opens with the real openssl by the documented command, and what does not is refused first."""

from __future__ import annotations

import base64
import re
import shutil
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from cryptography.hazmat.primitives import serialization
from openssl import openssl, private_key, private_pem, public_der, public_pem, put, shell

from runbook_lib.errors import RecoveryKeyInvalid
from runbook_lib.inputs.kms import EncryptKeyMaterialInputs
from runbook_lib.material import recovery_copies, recovery_keys
from runbook_lib.material.key_material import KeyMaterial
from runbook_lib.material.material_set import Wrapping
from runbook_lib.material.sources import make_set, read_private_key, read_recovery_public_keys

KNOWN = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
ARN = "arn:aws:kms:eu-west-2:123456789012:key/0f1c2a3b-0000-4000-8000-000000000000"
PASSWORD = "sesame"  # noqa: S105
MADE = {
    "genrsa": "openssl genrsa -out private.pem 2048; openssl rsa -in private.pem -pubout -out public.pem",
    "genrsa, traditional": "openssl genrsa -traditional -out private.pem 2048; openssl rsa -in private.pem -pubout -out public.pem",
    "genpkey": "openssl genpkey -algorithm rsa -out private.pem; openssl pkey -in private.pem -pubout -out public.pem",
    "PKCS 1": "openssl genrsa -out private.pem 2048; openssl rsa -in private.pem -RSAPublicKey_out -out public.pem",
    "of 3 primes": "openssl genrsa -primes 3 -out private.pem 2048; openssl rsa -in private.pem -pubout -out public.pem",
    "an unusual size": "openssl genrsa -out private.pem 2056; openssl rsa -in private.pem -pubout -out public.pem",
    "exponent 65539": "openssl genpkey -algorithm rsa -pkeyopt rsa_keygen_pubexp:65539 -out private.pem; "
    "openssl pkey -in private.pem -pubout -out public.pem",
    "exponent of 64 bits": "openssl genpkey -algorithm rsa -pkeyopt rsa_keygen_pubexp:18446744073709551557 -out private.pem; "
    "openssl pkey -in private.pem -pubout -out public.pem",
    "text before it": "openssl genrsa -out private.pem 2048; openssl rsa -in private.pem -pubout -text -out public.pem",
    "from ssh-keygen":
    "ssh-keygen -q -t rsa -b 2048 -N '' -m PEM -f private.pem; ssh-keygen -e -m PKCS8 -f private.pem > public.pem",
}  # fmt: skip
REFUSED = {
    "RSA-PSS": ("openssl genpkey -algorithm rsa-pss -pkeyopt rsa_keygen_bits:2048 -out private.pem; "
                "openssl pkey -in private.pem -pubout -out public.pem", "RSA-PSS key, which signs only"),
    "EC": ("openssl ecparam -genkey -name prime256v1 -out private.pem; openssl ec -in private.pem -pubout -out public.pem",
           "kind EC, which cannot decrypt"),
    "X25519": ("openssl genpkey -algorithm x25519 -out private.pem; openssl pkey -in private.pem -pubout -out public.pem",
               "kind X25519"),
    "Ed25519": ("openssl genpkey -algorithm ed25519 -out private.pem; openssl pkey -in private.pem -pubout -out public.pem",
                "kind Ed25519"),
    "DSA": ("openssl dsaparam -genkey -out private.pem 1024; openssl dsa -in private.pem -pubout -out public.pem", "kind DSA"),
    "SM2": ("openssl genpkey -algorithm sm2 -out private.pem; openssl pkey -in private.pem -pubout -out public.pem",
            "of an unknown kind"),
    "1024 bits": ("openssl genrsa -out private.pem 1024; openssl rsa -in private.pem -pubout -out public.pem", "1024 bits"),
    "exponent 3": ("openssl genrsa -3 -out private.pem 2048; openssl rsa -in private.pem -pubout -out public.pem",
                   "public exponent 3;"),
    "two keys": ("for i in 1 2; do openssl genrsa 2048 | openssl rsa -pubout; done > public.pem", "2 keys or certificates"),
    "a certificate chain": ("openssl req -x509 -newkey rsa:2048 -nodes -keyout k -subj /CN=x -out c; cat c c > public.pem",
                            "2 keys or certificates"),
    "private": ("openssl genrsa -out public.pem 2048", "is a private key"),
    "private, encrypted": ("openssl genrsa -aes256 -passout pass:x -out public.pem 2048", "is a private key"),
    "private, EC": ("openssl ecparam -genkey -name prime256v1 -out public.pem", "is a private key"),
    "private, OpenSSH": ("ssh-keygen -q -t rsa -N '' -f public.pem", "is a private key"),
    "private, DER": ("openssl genrsa 2048 | openssl rsa -outform DER -out public.pem", "is a private key"),
    "private after public": ("openssl genrsa -out k 2048; openssl rsa -in k -pubout -out p; cat p k > public.pem",
                             "is a private key"),
    "empty": (": > public.pem", "not a valid public key in PEM form"),
    "cut off": ("openssl genrsa 2048 | openssl rsa -pubout | head -4 > public.pem", "not a valid public key in PEM form"),
    "damaged": ("openssl genrsa 2048 | openssl rsa -pubout | sed 2d > public.pem", "damaged"),
}  # fmt: skip
CONVERTED = {
    "a certificate": "openssl req -x509 -newkey rsa:2048 -nodes -keyout k -subj /CN=x -out public.pem",
    "a certificate in DER form": "openssl req -x509 -newkey rsa:2048 -nodes -keyout k -subj /CN=x -outform DER -out public.pem",
    "a certificate request": "openssl req -new -newkey rsa:2048 -nodes -keyout k -subj /CN=x -out public.pem",
    "DER": "openssl genrsa 2048 | openssl rsa -pubout -outform DER -out public.pem",
    "an OpenSSH key": "ssh-keygen -q -t rsa -b 2048 -N '' -f k; mv k.pub public.pem",
    "an SSH2 key": "ssh-keygen -q -t rsa -b 2048 -N '' -f k; ssh-keygen -e -f k > public.pem",
    "UTF-16 text": "openssl genrsa 2048 | openssl rsa -pubout | iconv -f ASCII -t UTF-16 > public.pem",
}


@cache
def _made(commands: str) -> Path:
    folder = Path(mkdtemp())
    if "ssh-keygen" in commands and not shutil.which("ssh-keygen"):
        pytest.skip("ssh-keygen is not installed")
    shell(f"umask 077; {commands}", folder=folder)
    return folder


@pytest.fixture
def desk(tmp_path):
    """Return a function that runs commands in the test's folder; their result is made once."""

    def make(commands):
        for path in _made(commands).iterdir():
            put(tmp_path / path.name, path.read_bytes())
        return tmp_path

    return make


def sealed(folder):
    """Make a set for the recovery public key in a folder, put its files there; return what the custody text tells to type."""
    source = put(folder / "material", KNOWN)
    asked = EncryptKeyMaterialInputs.check({"key_material_source": "file", "key_material_file": str(source)})
    wrapping = Wrapping(public_der(private_key(2048, 9)), "RSAES_OAEP_SHA_256", "RSA_2048", ARN)
    keys = read_recovery_public_keys([str(folder / "public.pem")])
    made = make_set(asked.request(), wrapping, recovery_public_keys=keys, now=datetime.now(UTC))
    for name, content in made.files.items():
        put(folder / name, content)
    page = next(content for name, content in made.files.items() if name.startswith("CUSTODY.")).decode()
    return re.findall(r"^openssl pkeyutl -decrypt (?:.*\\\n)*.*$", page, re.M)[0]


@pytest.mark.parametrize("kind", MADE)
def test_a_backup_for_each_kind_of_key_that_is_taken_opens_with_openssl(desk, kind):
    """The command of the custody text, pasted, gives the 32 bytes."""
    folder = desk(MADE[kind])
    command = sealed(folder)
    put(folder / "recovery-private.pem", (folder / "private.pem").read_bytes())
    shell(command, folder=folder)
    assert KNOWN == (folder / "PlaintextKeyMaterial.bin").read_bytes()


@pytest.mark.parametrize("kind", REFUSED)
def test_what_openssl_could_not_open_is_refused_by_name(desk, kind):
    """One line: the file, what it is, and how to make a key that works."""
    commands, words = REFUSED[kind]
    file = str(desk(commands) / "public.pem")
    with pytest.raises(RecoveryKeyInvalid) as refused:
        read_recovery_public_keys([file])
    told = str(refused.value)
    assert words in told
    assert file in told
    assert "\n" not in told


def test_openssl_does_not_open_what_a_pss_key_was_given(desk):
    """The twin: why RSA-PSS is refused."""
    folder = desk(REFUSED["RSA-PSS"][0])
    put(folder / "copy.bin", bytes(256))
    openssl("pkeyutl", "-decrypt", "-in", "copy.bin", "-inkey", "private.pem", "-pkeyopt", "rsa_padding_mode:oaep",
            folder=folder, code=1)  # fmt: skip


@pytest.mark.parametrize("kind", CONVERTED)
def test_another_format_is_named_with_the_command_that_converts_it(desk, kind):
    """The command of the message, pasted, makes a key that is taken."""
    folder = desk(CONVERTED[kind])
    with pytest.raises(RecoveryKeyInvalid, match=kind) as refused:
        recovery_keys.load_recovery_public_key((folder / "public.pem").read_bytes(), name="public.pem")
    shell(str(refused.value).partition("convert it: ")[2], folder=folder)
    assert read_recovery_public_keys([str(folder / "recovery-public.pem")])


ODD = {
    "CRLF": lambda pem: pem.replace(b"\n", b"\r\n"),
    "BOM": lambda pem: b"\xef\xbb\xbf" + pem,
    "no line feed at the end": bytes.rstrip,
    "text before and after": lambda pem: b"Alice's key\n\n" + pem + b"\nsafe 3\n",
}


@pytest.mark.parametrize("how", ODD)
def test_how_an_editor_saved_it_does_not_matter(how):
    """The same key, the same fingerprint."""
    pem = public_pem(private_key(2048))
    (one, other) = (recovery_keys.load_recovery_public_key(content) for content in (pem, ODD[how](pem)))
    assert recovery_keys.key_fingerprint(one) == recovery_keys.key_fingerprint(other)


# Numbers ------------------------------------------------------------------------------------------------------------


def der(tag, content):
    size = len(content)
    long = size.to_bytes((size.bit_length() + 7) // 8 or 1, "big")
    return bytes([tag]) + (bytes([size]) if size < 128 else bytes([0x80 | len(long)]) + long) + content


def pem_of(n, e):
    """Return a public key of any two numbers, as no tool would make it."""
    numbers = b"".join(der(2, number.to_bytes(number.bit_length() // 8 + 1, "big")) for number in (n, e))
    algorithm = bytes.fromhex("300d06092a864886f70d0101010500")
    content = der(0x30, algorithm + der(3, b"\0" + der(0x30, numbers)))
    return b"-----BEGIN PUBLIC KEY-----\n" + base64.encodebytes(content) + b"-----END PUBLIC KEY-----\n"


N = private_key(2048).public_key().public_numbers().n
ABSURD = {
    "exponent 1": (N, 1),
    "exponent 2": (N, 2),
    "even exponent": (N, 65538),
    "exponent 35": (N, 35),
    "exponent of 65 bits": (N, 2**64 + 13),
    "exponent above the modulus": (N, N + 2),
    "even modulus": (N - 1, 65537),
    "modulus with a factor of 3": (3 * (N // 3), 65537),
    "a square": ((N >> 1024 | 1) ** 2, 65537),
    "modulus 0": (0, 65537),
    "modulus 7": (7, 3),
    "17000 bits": (2**17000 + 1, 65537),
    "a million bits": (2**1000000 + 1, 65537),
}


@pytest.mark.parametrize("how", ABSURD)
def test_a_key_of_absurd_numbers_is_refused_in_one_line(how):
    """Before anything is encrypted to it, and without a traceback."""
    with pytest.raises(RecoveryKeyInvalid) as refused:
        recovery_keys.load_recovery_public_key(pem_of(*ABSURD[how]), name="x.pem")
    assert "'x.pem'" in str(refused.value)
    assert len(str(refused.value)) < 500
    assert "\n" not in str(refused.value)


def test_the_same_modulus_with_another_exponent_is_the_same_key():
    """It opens both backups, so the second protects nothing further."""
    with pytest.raises(RecoveryKeyInvalid, match="given 2 times"):
        recovery_keys.load_recovery_public_keys([pem_of(N, 65537), pem_of(N, 65543)])


def test_the_same_key_under_two_names_is_refused_and_both_are_named(tmp_path):
    """A second path, a second format: one key."""
    pem = put(tmp_path / "a.pem", public_pem(private_key(2048)))
    pkcs1 = private_key(2048).public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1)
    with pytest.raises(RecoveryKeyInvalid, match=r"given 2 times \('.*/a\.pem' and '.*/A\.pem'\)"):
        read_recovery_public_keys([str(pem), str(put(tmp_path / "A.pem", pkcs1))])


# Training keys --------------------------------------------------------------------------------------------------------


def test_a_training_key_has_a_mark_that_stays_without_its_label(tmp_path):
    """Its public exponent; openssl checks the pair and opens with it, and so do we."""
    private, public = recovery_keys.make_training_recovery_key()
    bare = public.removeprefix(recovery_keys.TRAINING_LABEL)
    key = recovery_keys.load_recovery_public_key(bare)
    assert 65539 == key.public_numbers().e
    assert recovery_keys.is_training_key(key, bare)
    put(tmp_path / "public.pem", bare)
    put(tmp_path / "recovery-private.pem", private)
    shell(sealed(tmp_path), folder=tmp_path)
    assert KNOWN == (tmp_path / "PlaintextKeyMaterial.bin").read_bytes()
    assert b"RSA key ok" in openssl("rsa", "-check", "-noout", "-in", "recovery-private.pem", folder=tmp_path)
    (copy,) = tmp_path.glob("KeyMaterial.*")
    loaded = recovery_keys.load_recovery_private_key(private)
    assert KeyMaterial(KNOWN) == recovery_copies.open_copy(copy.read_bytes(), loaded)


def test_a_training_key_is_refused_by_its_mark_label_or_fingerprint():
    """Those of before have the exponent of all other keys: their label tells, or the files of the runs folder."""
    _, public = recovery_keys.make_training_recovery_key()
    bare = public.removeprefix(recovery_keys.TRAINING_LABEL)
    old = public_pem(private_key(2048))
    known = {recovery_keys.key_fingerprint(private_key(2048).public_key())}
    for content, training in ((public, ()), (bare, ()), (recovery_keys.TRAINING_LABEL + old, ()), (old, known)):
        with pytest.raises(RecoveryKeyInvalid, match=r"'x\.pem' is a training key"):
            recovery_keys.refuse_training_keys([content], ["x.pem"], known=training)
    recovery_keys.refuse_training_keys([old], ["x.pem"])


# Private keys ---------------------------------------------------------------------------------------------------------

CIPHERS = {
    "rsa -traditional -aes192": "AES-192-CBC",
    "rsa -traditional -camellia256": "CAMELLIA-256-CBC",
    "rsa -traditional -des -provider default -provider legacy": "DES-CBC",
    "pkcs8 -topk8 -v2 camellia-256-cbc": "CAMELLIA-256-CBC",
    "pkcs8 -topk8 -v2 aria-256-cbc": "ARIA-256-CBC",
    "pkcs8 -topk8 -v1 PBE-SHA1-DES -provider default -provider legacy": "PBE-SHA1-DES",
}


@pytest.mark.parametrize("how", CIPHERS)
def test_a_cipher_that_is_not_supported_is_named_with_the_conversion(tmp_path, monkeypatch, how):
    """The password is right, so the message does not blame it; the command of the message, pasted, gives a key that loads."""
    put(tmp_path / "plain.pem", private_pem(private_key(2048)))
    openssl(*how.split(), "-in", "plain.pem", "-passout", f"pass:{PASSWORD}", "-out", "k.pem", folder=tmp_path)
    (tmp_path / "k.pem").chmod(0o600)
    monkeypatch.setenv("P", PASSWORD)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecoveryKeyInvalid, match=f"k.pem is encrypted with {CIPHERS[how]}") as refused:
        read_private_key("k.pem", password_from="env:P")  # noqa: S106
    command = str(refused.value).partition("convert it: ")[2]
    shell(f"{command} -passin pass:{PASSWORD} -passout pass:{PASSWORD}", folder=tmp_path)
    (tmp_path / "recovery-private-aes256.pem").chmod(0o600)
    assert 2048 == read_private_key("recovery-private-aes256.pem", password_from="env:P").key_size  # noqa: S106
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    "how",
    ["rsa -traditional -aes128", "rsa -traditional -aes256", "rsa -traditional -des3", "pkcs8 -topk8 -v2 aes-192-cbc",
     "pkcs8 -topk8 -scrypt", "pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA512"],
)  # fmt: skip
def test_other_ciphers_open(tmp_path, monkeypatch, how):
    """The twin; and another password is called that."""
    put(tmp_path / "plain.pem", private_pem(private_key(2048)))
    openssl(*how.split(), "-in", "plain.pem", "-passout", f"pass:{PASSWORD}", "-out", "k.pem", folder=tmp_path)
    file = str(put(tmp_path / "k.pem", (tmp_path / "k.pem").read_bytes()))
    monkeypatch.setenv("P", PASSWORD)
    assert 2048 == read_private_key(file, password_from="env:P").key_size  # noqa: S106
    monkeypatch.setenv("P", "open")
    with pytest.raises(RecoveryKeyInvalid, match="password is wrong"):
        read_private_key(file, password_from="env:P")  # noqa: S106


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (public_pem(private_key(2048)), "no private key but: public key"),
        (private_pem(private_key(2048)) * 2, "several private keys"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\n", "ssh-keygen -p -m PKCS8"),
        (b"\x30\x82", "DER form"),
        (b"", "not a private key in PEM form"),
    ],
)
def test_what_is_no_private_key_is_named(content, words):
    """And never quoted."""
    with pytest.raises(RecoveryKeyInvalid, match=words) as refused:
        recovery_keys.load_recovery_private_key(content, name="k.pem")
    assert str(refused.value).startswith("k.pem ")
