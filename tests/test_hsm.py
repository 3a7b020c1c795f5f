"""Material that is made and wrapped inside a PKCS#11 token: SoftHSM 2, and nothing in its place."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner
from openssl import private_key, put
from softhsm import INSTALLED, MODULE, PIN, WRONG_PIN, choices, make_tokens
from unwrap import decrypt_key_material

from runbook_cli.main import main
from runbook_lib.errors import HsmIncapable, HsmUnavailable, PassPhraseMissing, PlanRefused
from runbook_lib.inputs.kms import EncryptKeyMaterialInputs
from runbook_lib.material import pkcs11, recovery_copies
from runbook_lib.material.key_material import RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256

pytestmark = pytest.mark.skipif(not INSTALLED, reason="SoftHSM 2 is not installed (apt-get install softhsm2)")
SHA_1 = {"wrapping_algorithm": RSAES_OAEP_SHA_1}


@pytest.fixture(scope="module", autouse=True)
def tokens(tmp_path_factory):
    """Two tokens; the library reads its configuration once, so they are made before it is loaded."""
    with pytest.MonkeyPatch.context() as patch:
        conf = make_tokens(tmp_path_factory.mktemp("softhsm"), "ceremony", "other", "twin", "twin")
        patch.setenv("SOFTHSM2_CONF", str(conf))
        patch.setenv("TOKEN_PIN", PIN)
        yield conf


def asked(**more):
    return EncryptKeyMaterialInputs.check(choices(**more)).request().token


def session(label="ceremony"):
    import pkcs11

    return pkcs11.lib(MODULE).get_token(token_label=label).open(rw=True, user_pin=PIN)


# Made, recognised and wrapped inside ------------------------------------------------------------------------------


def test_what_the_token_wraps_is_a_key_of_256_bits_with_the_check_value_it_tells():
    """The token's own CMAC and what is unwrapped outside agree: one definition on both sides."""
    with pkcs11.open_key(asked(pkcs11_key_label="agreed"), create=True) as key:
        wrapped = key.encrypt_to(private_key(2048).public_key(), RSAES_OAEP_SHA_1)
        told = key.key_check_value
    opened = decrypt_key_material(wrapped, private_key=private_key(2048), wrapping_algorithm=RSAES_OAEP_SHA_1)
    assert opened.key_check_value == told
    assert 6 == len(told)


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_every_wrapping_key_spec_can_be_wrapped_to(bits):
    """256, 384 and 512 bytes."""
    with pkcs11.open_key(asked(pkcs11_key_label="sizes"), create=True) as key:
        assert bits // 8 == len(key.encrypt_to(private_key(bits).public_key(), RSAES_OAEP_SHA_1))


def test_the_token_gives_its_key_to_nobody_in_clear():
    """Sensitive from its first moment, made in the token; reading its value is refused by the token itself."""
    import pkcs11 as library

    with pkcs11.open_key(asked(pkcs11_key_label="secret"), create=True) as key:
        facts = key.facts
        assert (True, True, False) == (facts["made_in_token"], facts["always_sensitive"], facts["was_there_before"])
        with pytest.raises(library.exceptions.AttributeSensitive):
            key._key[library.Attribute.VALUE]


def test_this_token_does_sha_1_only_and_says_so():
    """Found by trying, with the PIN and without."""
    assert [RSAES_OAEP_SHA_1] == pkcs11.capabilities(asked())
    with pkcs11.open_key(asked(pkcs11_key_label="tried"), create=True) as key:
        assert ([RSAES_OAEP_SHA_1], RSAES_OAEP_SHA_1) == (key.algorithms, key.best_algorithm())
        with pytest.raises(HsmIncapable, match="cannot wrap with RSAES_OAEP_SHA_256, it supports RSAES_OAEP_SHA_1"):
            key.encrypt_to(private_key(2048).public_key(), RSAES_OAEP_SHA_256)


def test_trying_leaves_nothing_in_the_token():
    """Throw-away keys and wrapping keys are objects of the session."""
    with session() as open_session:
        before = len(list(open_session.get_objects()))
    pkcs11.capabilities(asked())
    with session() as open_session:
        assert before == len(list(open_session.get_objects()))


def test_the_same_label_is_the_same_key():
    """So that a ceremony that was broken off goes on, and a recovery finds it; the record says that it was there."""
    with pkcs11.open_key(asked(pkcs11_key_label="again"), create=True) as key:
        first = key.key_check_value
    with pkcs11.open_key(asked(pkcs11_key_label="again"), create=True) as key:
        assert (first, True) == (key.key_check_value, key.facts["was_there_before"])
    with pkcs11.open_key(asked(pkcs11_key_label="another"), create=True) as key:
        assert first != key.key_check_value


# What does not work, in words -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"pkcs11_module": "/nowhere/lib.so"}, "cannot be loaded as a PKCS#11 library"),
        ({"pkcs11_token_label": "absent"}, "token 'absent' does not exist; the module has: .*'ceremony'"),
        ({"pkcs11_token_label": "twin"}, "several tokens have the label 'twin'"),
        ({"pkcs11_pin_from": "env:WRONG_PIN"}, "refuses the PIN"),
        ({"pkcs11_key_label": "absent"}, "has no key 'absent'"),
    ],
)
def test_what_is_not_there_is_said(monkeypatch, given, words):
    """Module, token, PIN, key: each in its own line, and the PIN in none."""
    monkeypatch.setenv("WRONG_PIN", WRONG_PIN)
    with pytest.raises(HsmUnavailable, match=words) as refused, pkcs11.open_key(asked(**given), create=False):
        pass
    assert WRONG_PIN not in str(refused.value)


def test_a_pin_that_is_nowhere_is_asked_for_and_never_a_parameter(monkeypatch):
    """From a prompt, an environment variable or a file; headless there is nobody to ask."""
    monkeypatch.delenv("TOKEN_PIN")
    with pytest.raises(PassPhraseMissing, match="TOKEN_PIN is not set"), pkcs11.open_key(asked(), create=True):
        pass
    with (
        pytest.raises(PassPhraseMissing, match="nobody can answer a prompt"),
        pkcs11.open_key(asked(pkcs11_pin_from="prompt"), create=True),
    ):
        pass


def test_a_pin_from_a_file(tmp_path):
    """Its line feed is no part of it."""
    put(tmp_path / "pin", f"{PIN}\n".encode())
    with pkcs11.open_key(asked(pkcs11_pin_from=f"file:{tmp_path / 'pin'}"), create=True) as key:
        assert key.key_check_value


@pytest.mark.parametrize(
    ("length", "extractable", "words"), [(128, True, "not a 256-bit AES key"), (256, False, "is not extractable")]
)
def test_a_key_that_kms_cannot_take_is_refused(length, extractable, words):
    """Another size, or one that cannot be wrapped."""
    import pkcs11 as library

    label = f"bad-{length}"
    with session() as open_session:
        open_session.generate_key(
            library.KeyType.AES, length, label=label, store=True, template={library.Attribute.EXTRACTABLE: extractable}
        )
    with pytest.raises(HsmIncapable, match=words), pkcs11.open_key(asked(pkcs11_key_label=label), create=True):
        pass


def test_without_the_extra_the_way_out_is_named():
    """python-pkcs11 is optional: everything else works, and this says what to install."""
    code = (
        "import sys; sys.modules['pkcs11'] = None\n"
        "from runbook_lib.material import pkcs11\nfrom runbook_lib.material.request import HsmToken\n"
        "pkcs11.find_token(HsmToken('m', 't'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'aurora-byok-runbook[hsm]'" in done.stderr


# Through the steps ----------------------------------------------------------------------------------------------------


def test_the_token_keeps_the_original_and_brings_it_back(walk):
    """Made in the token, imported, deleted, brought back: no file anywhere held it."""
    walk.start().pair(**SHA_1).encrypt(**choices(pkcs11_key_label="kept"))
    walk.bring_in()
    record = walk.run.record("03_encrypt_key_material")["custody"]
    assert ("hsm", "pkcs11", "ceremony") == (record["custody"], record["source"], record["hsm"]["token_label"])
    assert "in the HSM token 'ceremony'" in next(walk.path.glob("CUSTODY.*.txt")).read_text()
    sealed = walk.client().encrypt(KeyId=walk.key_id, Plaintext=b"x")["CiphertextBlob"]
    walk.delete_material()
    told = CliRunner().invoke(main, ["recover", "demo", "--runs-dir", str(walk.folder)]).output
    assert "verified" in told
    assert b"x" == walk.client().decrypt(CiphertextBlob=sealed)["Plaintext"]


def test_another_key_of_the_token_is_not_the_material(walk):
    """The twin: its check value differs, and KMS is not even asked."""
    walk.start().pair(**SHA_1).encrypt(**choices(pkcs11_key_label="lost"))
    walk.bring_in()
    with session() as open_session:
        for key in open_session.get_objects({__import__("pkcs11").Attribute.LABEL: "lost"}):
            key.destroy()
    with pkcs11.open_key(asked(pkcs11_key_label="lost"), create=True):
        pass
    done = CliRunner().invoke(main, ["recover", "demo", "--runs-dir", str(walk.folder)])
    assert (1, True) == (done.exit_code, "recorded is" in done.output)


def test_the_token_can_also_encrypt_to_recovery_keys(walk):
    """custody recovery_key with source pkcs11: the copy is wrapped inside too, and opens with the recovery key."""
    walk.start().pair(**SHA_1)
    walk.encrypt(**choices(custody="recovery_key", recovery_public_keys=[walk.public()], pkcs11_key_label="copied"))
    record = walk.run.record("03_encrypt_key_material")["custody"]
    (holder,) = record["holders"]
    assert RSAES_OAEP_SHA_1 == holder["algorithm"]
    opened = recovery_copies.open_copy(
        (walk.path / holder["file"]).read_bytes(), private_key(2048, 0), algorithm=holder["algorithm"]
    )
    assert record["key_check_value"] == opened.key_check_value
    # And it is a source of 03: the SHA-1 that the token could do is found by itself.
    copy = str(put(walk.keys / "copy.bin", (walk.path / holder["file"]).read_bytes()))
    taken = {"key_material_source": "recovery", "key_material_file": copy, "recovery_public_keys": [walk.public(1)]}
    walk.encrypt(**taken, recovery_private_key=walk.private())
    assert record["key_check_value"] == walk.run.record("03_encrypt_key_material")["key_check_value"]


def test_the_plan_says_what_the_token_can_do_before_anything_is_made(walk):
    """02 asked for SHA-256: 03 refuses and says what to change; with SHA-1 it goes."""
    walk.start().pair()
    plan = walk.plan(**choices())
    assert "it supports RSAES_OAEP_SHA_1; set wrapping_algorithm: RSAES_OAEP_SHA_1" in plan.change("HSM token").detail
    with pytest.raises(PlanRefused, match="set wrapping_algorithm: RSAES_OAEP_SHA_1"):
        walk.encrypt(**choices())
    walk.pair(**SHA_1)
    assert "wraps with RSAES_OAEP_SHA_1" == walk.plan(**choices()).change("HSM token").detail


def test_an_hsm_at_the_ceremony(walk, tmp_path):
    """`runbook wrap --source pkcs11` on the machine of the HSM; 03 takes back what it made, with its record."""
    walk.start().pair(**SHA_1)
    words = ["wrap", str(walk.path / "hand-over.zip"), "--source", "pkcs11", "--custody", "hsm", "--pkcs11-module", MODULE,
             "--pkcs11-token-label", "ceremony", "--pin-from", "env:TOKEN_PIN", "--out", str(tmp_path / "there")]  # fmt: skip
    done = CliRunner().invoke(main, words)
    assert 0 == done.exit_code, done.output
    walk.encrypt(key_material_source="wrapped", key_material_file=str(tmp_path / "there/hand-back.zip"), custody="none")
    walk.bring_in()
    assert "ceremony" == walk.run.record("03_encrypt_key_material")["custody"]["hsm"]["token_label"]
    walk.delete_material()
    done = CliRunner().invoke(main, ["recover", "demo", "--runs-dir", str(walk.folder)])
    assert "the key material is in the HSM token; provide the key material as a file" in done.output
    more = ["--pkcs11-module", MODULE, "--pin-from", "env:TOKEN_PIN"]
    done = CliRunner().invoke(main, ["recover", "demo", "--runs-dir", str(walk.folder), *more])
    assert (0, True) == (done.exit_code, "verified" in done.output), done.output
