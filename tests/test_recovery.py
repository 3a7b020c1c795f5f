"""`runbook recover`: the original back into its key from every custody, proved by KMS, and nothing else ever."""

from __future__ import annotations

import json
import os
import re
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from kms_support import advance, now
from openssl import private_key, private_pem, put, shell
from walk import CHECK_VALUE, KNOWN, OTHER, custody_of

from runbook_cli.main import main
from runbook_lib.inputs.kms import ImportKeyMaterialInputs
from runbook_lib.material.key_material import KeyMaterial
from runbook_lib.steps import import_key_material

SEALED = b"sealed before the loss"


def runbook(walk, *words, code=0, command="recover"):
    """Run a command in this process; return what it printed."""
    words = [command, *words, *(["--runs-dir", str(walk.folder)] if command == "recover" else [])]
    done = CliRunner().invoke(main, words)
    assert code == done.exit_code, (done.output, done.exception)
    return done.output


def lose(walk, kind="recovery_key", **expiry):
    """Import the known material under this custody, seal a line, delete the material; return the ciphertext."""
    walk.start().pair().encrypt(**custody_of(kind, walk))
    walk.bring_in(**expiry)
    sealed = walk.client().encrypt(KeyId=walk.key_id, Plaintext=SEALED)["CiphertextBlob"]
    walk.delete_material()
    assert "PendingImport" == walk.key["KeyState"]
    return sealed


def opens(walk, sealed):
    """Say what an old ciphertext holds."""
    return walk.client().decrypt(CiphertextBlob=sealed)["Plaintext"]


def opened_component(walk, number):
    """Open a custodian's component with openssl, elsewhere."""
    from openssl import oaep_options, openssl

    holder = walk.run.record("03_encrypt_key_material")["custody"]["holders"][number]
    out = walk.keys / f"component-{number}"
    openssl("pkeyutl", "-decrypt", "-in", str(walk.path / holder["file"]), "-out", str(out), "-inkey",
            walk.private(number), *oaep_options("sha256"), folder=walk.keys)  # fmt: skip
    out.chmod(0o600)
    return str(out)


BRING = {
    "recovery_key": ("recovery_key", lambda walk: ["--private-key", walk.private(1)]),
    "recovery_key with a password": (
        "recovery_key",
        lambda walk: ["--private-key", walk.private(0, b"sesame"), "--password-from", "env:RECOVERY_PASSWORD"],
    ),
    "split": ("split", lambda walk: [word for n in (2, 0, 1) for word in ("--private-key", walk.private(n))]),
    "components": ("split", lambda walk: [w for n in (1, 0, 2) for w in ("--component", opened_component(walk, n))]),
    "file": ("file", lambda walk: []),
    "none": ("none", lambda walk: ["--file", walk.material(KNOWN.hex().encode(), "hex"), "--encoding", "hex"]),
}


@pytest.mark.parametrize("how", BRING)
def test_the_original_comes_back_from_every_custody(walk, monkeypatch, how):
    """Deleted, brought, proved: the same KeyMaterialId, Enabled, and the old ciphertext opens again."""
    kind, bring = BRING[how]
    monkeypatch.setenv("RECOVERY_PASSWORD", "sesame")
    sealed = lose(walk, kind)
    before = walk.run.record("04_import_key_material")["key_material_id"]
    told = runbook(walk, "demo", *bring(walk))
    assert f"key check value {CHECK_VALUE} as recorded" in told
    assert "verified: KMS accepted it as the same key material; the key is Enabled" in told
    assert (before, SEALED) == (walk.key["CurrentKeyMaterialId"], opens(walk, sealed))
    assert KNOWN.hex() not in told


def test_a_training_key_is_found_by_itself(walk):
    """In the sandbox the whole way works without a word."""
    walk.start().pair().encrypt()
    walk.bring_in()
    walk.delete_material()
    assert "verified" in runbook(walk, "demo")


WRONG = {
    "another recovery key": ("recovery_key", lambda walk: ["--private-key", walk.private(5)], "opens no backup"),
    "no key": ("recovery_key", lambda walk: [], "no recovery private key was provided"),
    "a custodian is missing": (
        "split",
        lambda walk: ["--private-key", walk.private(0)],
        "2 of 3 components are missing",
    ),
    "one component twice": (
        "split",
        lambda walk: ["--component", opened_component(walk, 0)] * 2 + ["--component", opened_component(walk, 1)],
        "provided twice",
    ),
    "two components of three": (
        "split",
        lambda walk: [word for n in (0, 1) for word in ("--component", opened_component(walk, n))],
        "recorded is 1a0b2d",
    ),
    "other material": (
        "none",
        lambda walk: ["--file", walk.material(OTHER, "other")],
        "not the material that the key had (key check value ca3f1a, recorded is 1a0b2d)",
    ),
    "nothing": ("none", lambda walk: [], "this run has no key material backup"),
}


@pytest.mark.parametrize("how", WRONG)
def test_what_is_not_the_original_is_refused(walk, how):
    """The twins: each in its own words, the key still waits, and nothing was imported."""
    kind, bring, words = WRONG[how]
    lose(walk, kind)
    assert words in runbook(walk, "demo", *bring(walk), code=1)
    assert "PendingImport" == walk.key["KeyState"]


def test_where_no_check_value_is_known_kms_itself_refuses_other_material(walk):
    """The check value is the hint; the proof is KMS's."""
    walk.start().pair()
    public = (walk.path / "WrappingPublicKey.bin").read_bytes()
    wrapped = import_key_material.key_material.encrypt_key_material(
        KeyMaterial(KNOWN), wrapping_public_key=public, wrapping_algorithm="RSAES_OAEP_SHA_256"
    )
    walk.encrypt(key_material_source="wrapped", key_material_file=str(put(walk.keys / "w", wrapped)), custody="none")
    walk.bring_in()
    walk.delete_material()
    told = runbook(walk, "demo", "--file", walk.material(OTHER, "other"), code=1)
    assert "IncorrectKeyMaterialException: this is not the material that the key had" in told
    assert "PendingImport" == walk.key["KeyState"]
    assert "Enabled" in runbook(walk, "demo", "--file", walk.material())


def test_a_damaged_copy_does_not_open_and_the_other_does(walk):
    """Two recipients, so that one may lose hers."""
    lose(walk)
    holder = walk.run.record("03_encrypt_key_material")["custody"]["holders"][0]
    path = walk.path / holder["file"]
    path.write_bytes(path.read_bytes()[:-1])
    assert "damaged" in runbook(walk, "demo", "--private-key", walk.private(0), code=1)
    assert "verified" in runbook(walk, "demo", "--private-key", walk.private(1))


# Before and after expiry ---------------------------------------------------------------------------------------


def in_days(walk, days):
    from datetime import timedelta

    return (now(walk.endpoint) + timedelta(days=days)).isoformat(timespec="seconds")


def test_before_its_day_the_expiry_is_moved_with_one_command(walk):
    """Nothing is deleted first, and 04, run again, keeps what recover left."""
    walk.start().pair().encrypt(**custody_of("recovery_key", walk))
    first, later = in_days(walk, 30), in_days(walk, 200)
    walk.bring_in(expiration_model="KEY_MATERIAL_EXPIRES", valid_to=first)
    runbook(walk, "demo", "--private-key", walk.private(), "--valid-to", later)
    assert later == walk.key["ValidTo"].astimezone(tz=None).astimezone(now(walk.endpoint).tzinfo).isoformat()
    assert later == walk.run.record("04_import_key_material")["valid_to"]
    asked = {"expiration_model": "KEY_MATERIAL_EXPIRES", "valid_to": first}
    assert ["keep"] == [change.action for change in walk.plan_import(**asked).changes]
    walk.bring_in(**asked)
    runbook(walk, "demo", "--private-key", walk.private(), "--does-not-expire")
    assert "KEY_MATERIAL_DOES_NOT_EXPIRE" == walk.key["ExpirationModel"]


def test_after_its_day_the_material_comes_back_with_a_new_one(walk):
    """Expired: the recorded date is no choice any more, and the message says which option to give."""
    walk.start().pair().encrypt(**custody_of("recovery_key", walk))
    walk.bring_in(expiration_model="KEY_MATERIAL_EXPIRES", valid_to=in_days(walk, 30))
    advance(walk.endpoint, days=31)
    assert "PendingImport" == walk.key["KeyState"]
    told = runbook(walk, "demo", "--private-key", walk.private(), code=2)
    assert "--valid-to" in told
    assert "is past" in told
    runbook(walk, "demo", "--private-key", walk.private(), "--valid-to", in_days(walk, 30))
    assert "Enabled" == walk.key["KeyState"]


def test_a_choice_that_contradicts_itself_is_bad_usage(walk):
    """Exit 2, and nothing is called."""
    walk.start().pair().encrypt(**custody_of("recovery_key", walk))
    walk.bring_in()
    for words, said in (
        (("--valid-to", "2027-01-01T00:00:00+00:00", "--does-not-expire"), "give one of them"),
        (("--valid-to", "tomorrow"), "is not a valid ISO 8601 time"),
        (("--check", "--hand-over"), "exclude each other"),
    ):
        assert said in runbook(walk, "demo", "--private-key", walk.private(), *words, code=2)


def test_nothing_is_recovered_into_a_key_that_never_had_or_takes_none(walk):
    """Never imported: run 04. Being deleted: cancel that first."""
    walk.start().pair().encrypt(**custody_of("recovery_key", walk))
    assert "nothing was ever imported" in runbook(walk, "demo", "--private-key", walk.private(), code=1)
    walk.bring_in()
    walk.client().schedule_key_deletion(KeyId=walk.key_id, PendingWindowInDays=7)
    assert "is PendingDeletion" in runbook(walk, "demo", "--private-key", walk.private(), code=1)


def test_the_yearly_check_calls_nobody(walk, monkeypatch):
    """--check opens the original and goes; with the sandbox unreachable it still works."""
    walk.start().pair().encrypt(**custody_of("recovery_key", walk))
    walk.bring_in()
    monkeypatch.setenv("RUNBOOK_SANDBOX_ENDPOINT", "http://127.0.0.1:9")
    assert "the key material can be restored" in runbook(walk, "demo", "--private-key", walk.private(), "--check")
    assert "opens no backup" in runbook(walk, "demo", "--private-key", walk.private(5), "--check", code=1)


# Where the private key may not come here ----------------------------------------------------------------------


def test_the_original_is_wrapped_where_it_is_and_taken_back(walk, tmp_path):
    """The bundle goes there without the token, what comes back is proved, and the pair is forgotten."""
    sealed = lose(walk)
    told = runbook(walk, "demo", "--hand-over")
    bundle = walk.path / "recovery" / "hand-over.zip"
    assert "runbook wrap hand-over.zip --source recovery" in told
    assert {"WrappingPublicKey.bin", "hand-over.json", "README.txt"} == set(zipfile.ZipFile(bundle).namelist())
    copy = next(walk.path.glob("KeyMaterial.recovery-*.bin"))
    holder = walk.run.record("03_encrypt_key_material")["custody"]["holders"]
    number = [one["file"] for one in holder].index(copy.name)
    runbook(walk, str(bundle), "--source", "recovery", "--file", str(copy), "--recovery-private-key", walk.private(number),
            "--recovery-public-key", walk.public(3), "--out", str(tmp_path / "there"), command="wrap")  # fmt: skip
    back = str(tmp_path / "there" / "hand-back.zip")
    assert "verified" in runbook(walk, "demo", "--encrypted", back)
    assert SEALED == opens(walk, sealed)
    assert not bundle.exists()
    assert "begin with: runbook recover demo --hand-over" in runbook(walk, "demo", "--encrypted", back, code=1)


def test_what_was_wrapped_for_an_older_bundle_or_from_other_material_is_refused(walk, tmp_path):
    """The twins of the ceremony."""
    lose(walk)
    runbook(walk, "demo", "--hand-over")
    bundle = walk.path / "recovery" / "hand-over.zip"
    put(tmp_path / "old.zip", bundle.read_bytes())
    runbook(walk, "demo", "--hand-over")
    for name, source, material, words in (
        ("old", tmp_path / "old.zip", KNOWN, "another wrapping key"),
        ("other", bundle, OTHER, "not the material that the key had (key check value ca3f1a, recorded is 1a0b2d)"),
    ):
        runbook(walk, str(source), "--source", "file", "--file", walk.material(material, name),
                "--recovery-public-key", walk.public(), "--out", str(tmp_path / name), command="wrap")  # fmt: skip
        assert words in runbook(walk, "demo", "--encrypted", str(tmp_path / name / "hand-back.zip"), code=1)
    advance(walk.endpoint, hours=25)
    assert "valid until" in runbook(walk, "demo", "--encrypted", str(tmp_path / "other" / "hand-back.zip"), code=1)
    assert "PendingImport" == walk.key["KeyState"]


# What is recorded ------------------------------------------------------------------------------------------------


def test_status_says_how_long_is_left(walk):
    """In words for people, in seconds for programs."""
    walk.start().pair().encrypt(**custody_of("recovery_key", walk))
    walk.bring_in(expiration_model="KEY_MATERIAL_EXPIRES", valid_to=in_days(walk, 40.5))
    told = CliRunner().invoke(main, ["status", "demo", "--runs-dir", str(walk.folder)]).output
    assert "in 40 days; to extend it: runbook recover demo --valid-to TIME" in told
    rows = json.loads(CliRunner().invoke(main, ["status", "--json", "--runs-dir", str(walk.folder)]).output)
    assert 40 == rows[0]["seconds_until_expiry"] // 86400


def test_the_recovery_is_recorded_without_a_secret(walk):
    """When, as what, until when; 04 stays finished."""
    lose(walk)
    runbook(walk, "demo", "--private-key", walk.private())
    record = walk.run.record("04_import_key_material")
    assert record["recovered_at"].startswith("20")
    assert record["summary"].endswith("imported again")
    assert ["keep"] == [
        change.action for change in import_key_material.plan(walk.step("04"), ImportKeyMaterialInputs.check({})).changes
    ]
    for path in walk.path.rglob("*"):
        if path.is_file():
            assert KNOWN not in path.read_bytes()
            assert KNOWN.hex().encode() not in path.read_bytes()


@pytest.mark.slow
def test_the_page_brings_it_back_by_hand_with_openssl_and_aws_alone(walk, tmp_path, monkeypatch):
    """The custody text, pasted as it stands: no software of ours, and the old ciphertext opens again."""
    sealed = lose(walk)
    page = next(walk.path.glob("CUSTODY.*.txt")).read_text()
    opening = re.findall(r"^openssl pkeyutl -decrypt (?:.*\\\n)*.*$", page, re.M)[1]
    (again,) = re.findall(r"^aws kms get-parameters(?:.+\n)+", page, re.M)
    put(tmp_path / "recovery-private.pem", private_pem(private_key(2048, 1)))
    for path in walk.path.glob("KeyMaterial.*.bin"):
        put(tmp_path / path.name, path.read_bytes())
    for name, value in {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "AWS_ENDPOINT_URL": walk.endpoint,
        "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "eu-west-2",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    shell(f"umask 077\n{opening}\n{again}", folder=tmp_path)
    assert ("Enabled", SEALED) == (walk.key["KeyState"], opens(walk, sealed))
    assert not (tmp_path / "PlaintextKeyMaterial.bin").exists()
