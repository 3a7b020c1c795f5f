"""The openssl command line is the second opinion: what we wrap it unwraps, and the other way round, or neither does."""

from __future__ import annotations

import pytest
from openssl import DIGESTS, oaep_options, openssl, private_key, private_pem, public_der, put, shell
from unwrap import decrypt_key_material

from runbook_lib.errors import EncryptedKeyMaterialInvalid, KeyMaterialLength
from runbook_lib.material import key_material, openssl_commands
from runbook_lib.material.key_material import KeyMaterial

SIZES = (2048, 3072, 4096)
EVERY = [(algorithm, bits) for algorithm in DIGESTS for bits in SIZES]


@pytest.fixture
def desk(tmp_path):
    """Return a folder with 32 bytes from `openssl rand` and a wrapping key pair of each size."""
    openssl("rand", "-out", "PlaintextKeyMaterial.bin", "32", folder=tmp_path)
    (tmp_path / "PlaintextKeyMaterial.bin").chmod(0o600)
    for bits in SIZES:
        put(tmp_path / f"private-{bits}.pem", private_pem(private_key(bits)))
        put(tmp_path / f"WrappingPublicKey-{bits}.bin", public_der(private_key(bits)))
    return tmp_path


def material(desk):
    return KeyMaterial.from_file(desk / "PlaintextKeyMaterial.bin")


def wrap_here(desk, algorithm, bits):
    wrapped = key_material.encrypt_key_material(
        material(desk),
        wrapping_public_key=(desk / f"WrappingPublicKey-{bits}.bin").read_bytes(),
        wrapping_algorithm=algorithm,
    )
    return put(desk / "wrapped.bin", wrapped)


def wrap_there(desk, digest, bits, source="PlaintextKeyMaterial.bin"):
    openssl(
        "pkeyutl", "-encrypt", "-in", source, "-out", "wrapped.bin", "-pubin", "-keyform", "DER",
        "-inkey", f"WrappingPublicKey-{bits}.bin", *oaep_options(digest), folder=desk,
    )  # fmt: skip
    return (desk / "wrapped.bin").read_bytes()


def unwrap_there(desk, digest, bits, code=0, key=""):
    return openssl(
        "pkeyutl", "-decrypt", "-in", "wrapped.bin", "-inkey", key or f"private-{bits}.pem", *oaep_options(digest),
        folder=desk, code=code,
    )  # fmt: skip


@pytest.mark.parametrize(("algorithm", "bits"), EVERY)
def test_what_we_wrap_openssl_unwraps(desk, algorithm, bits):
    """Both algorithms, all three key sizes, byte for byte."""
    wrapped = wrap_here(desk, algorithm, bits)
    assert bits // 8 == wrapped.stat().st_size
    assert bytes(material(desk)) == unwrap_there(desk, DIGESTS[algorithm], bits)


@pytest.mark.parametrize(("algorithm", "bits"), EVERY)
def test_what_openssl_wraps_we_unwrap(desk, algorithm, bits):
    """As the sandbox's KMS does."""
    wrapped = wrap_there(desk, DIGESTS[algorithm], bits)
    opened = decrypt_key_material(wrapped, private_key=private_key(bits), wrapping_algorithm=algorithm)
    assert material(desk) == opened


@pytest.mark.parametrize(("algorithm", "bits"), EVERY)
def test_openssl_does_not_unwrap_what_is_wrong(desk, algorithm, bits):
    """The twins: another key, another hash, a truncated file."""
    wrapped = wrap_here(desk, algorithm, bits)
    other = {"sha256": "sha1", "sha1": "sha256"}[DIGESTS[algorithm]]
    put(desk / "other.pem", private_pem(private_key(bits, 1)))
    unwrap_there(desk, DIGESTS[algorithm], bits, code=1, key="other.pem")
    unwrap_there(desk, other, bits, code=1)
    put(wrapped, wrapped.read_bytes()[:-1])
    unwrap_there(desk, DIGESTS[algorithm], bits, code=1)


@pytest.mark.parametrize(("algorithm", "bits"), EVERY)
def test_we_do_not_unwrap_what_is_wrong(desk, algorithm, bits):
    """The twins: another key, another hash, a truncated file, 31 and 33 bytes inside."""
    digest = DIGESTS[algorithm]
    wrapped = wrap_there(desk, digest, bits)
    other = wrap_there(desk, {"sha256": "sha1", "sha1": "sha256"}[digest], bits)
    for content, key in (
        (wrapped, private_key(bits, 1)),
        (other, private_key(bits)),
        (wrapped[:-1], private_key(bits)),
    ):
        with pytest.raises(EncryptedKeyMaterialInvalid, match="does not open"):
            decrypt_key_material(content, private_key=key, wrapping_algorithm=algorithm)
    for length in (31, 33):
        openssl("rand", "-out", "wrong.bin", str(length), folder=desk)
        wrong = wrap_there(desk, digest, bits, source="wrong.bin")
        with pytest.raises(KeyMaterialLength, match=f"this is {length}"):
            decrypt_key_material(wrong, private_key=private_key(bits), wrapping_algorithm=algorithm)


def test_sha_256_with_mgf1_sha_1_is_not_what_kms_takes(desk):
    """A common default of HSMs: the hash is right, that of MGF1 is not."""
    openssl(
        "pkeyutl", "-encrypt", "-in", "PlaintextKeyMaterial.bin", "-out", "wrapped.bin", "-pubin", "-keyform", "DER",
        "-inkey", "WrappingPublicKey-2048.bin", "-pkeyopt", "rsa_padding_mode:oaep",
        "-pkeyopt", "rsa_oaep_md:sha256", "-pkeyopt", "rsa_mgf1_md:sha1", folder=desk,
    )  # fmt: skip
    with pytest.raises(EncryptedKeyMaterialInvalid, match="MGF1 hash"):
        decrypt_key_material(
            (desk / "wrapped.bin").read_bytes(),
            private_key=private_key(2048),
            wrapping_algorithm="RSAES_OAEP_SHA_256",
        )


# The commands that the page shows, pasted ------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "bits"), EVERY)
def test_the_commands_on_the_page_do_what_the_function_does(desk, algorithm, bits):
    """`openssl rand` and `openssl pkeyutl`, exactly as notebook 03 shows them."""
    (desk / "PlaintextKeyMaterial.bin").unlink()
    put(desk / "WrappingPublicKey.bin", public_der(private_key(bits)))
    shell("umask 077\n" + openssl_commands.openssl_commands(wrapping_algorithm=algorithm), folder=desk)
    wrapped = (desk / "EncryptedKeyMaterial.bin").read_bytes()
    key_material.check_encrypted_key_material(wrapped, wrapping_key_spec=f"RSA_{bits}")
    opened = decrypt_key_material(wrapped, private_key=private_key(bits), wrapping_algorithm=algorithm)
    assert material(desk) == opened


@pytest.mark.parametrize("bits", SIZES)
def test_the_commands_of_the_post_still_run_and_are_sha_1(desk, bits):
    """`openssl rand` and `openssl rsautl`: what they make imports as RSAES_OAEP_SHA_1, and never as SHA_256."""
    (desk / "PlaintextKeyMaterial.bin").unlink()
    put(desk / "WrappingPublicKey.bin", public_der(private_key(bits)))
    shell("umask 077\n" + openssl_commands.post_openssl_commands(), folder=desk)
    wrapped = (desk / "EncryptedKeyMaterial.bin").read_bytes()
    key = private_key(bits)
    opened = decrypt_key_material(wrapped, private_key=key, wrapping_algorithm="RSAES_OAEP_SHA_1")
    assert material(desk) == opened
    with pytest.raises(EncryptedKeyMaterialInvalid):
        decrypt_key_material(wrapped, private_key=key, wrapping_algorithm="RSAES_OAEP_SHA_256")
    with pytest.raises(EncryptedKeyMaterialInvalid):
        decrypt_key_material(wrapped, private_key=private_key(bits, 1), wrapping_algorithm="RSAES_OAEP_SHA_1")


@pytest.mark.parametrize("bits", SIZES)
def test_the_posts_rsautl_opens_what_we_wrap_with_sha_1_only(desk, bits):
    """The other way round, with the post's own tool."""
    wrap_here(desk, "RSAES_OAEP_SHA_1", bits)
    words = ("rsautl", "-decrypt", "-oaep", "-in", "wrapped.bin", "-inkey", f"private-{bits}.pem")
    assert bytes(material(desk)) == openssl(*words, folder=desk)
    wrap_here(desk, "RSAES_OAEP_SHA_256", bits)
    openssl(*words, folder=desk, code=1)


# The key check value -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(3))
def test_openssl_gives_the_same_key_check_value(desk, number):
    """AES-CMAC over one zero block, first three bytes; the zeros are ours, the MAC is openssl's."""
    found = material(desk)
    put(desk / "zeros.bin", bytes(16))
    told = openssl(
        "mac", "-cipher", "AES-256-CBC", "-macopt", f"hexkey:{bytes(found).hex()}", "-in", "zeros.bin", "CMAC",
        folder=desk,
    )  # fmt: skip
    assert found.key_check_value == told.decode()[:6].lower()
