"""Step 03: one set with one fingerprint, whatever happens; new material supersedes old until something was imported."""

from __future__ import annotations

import json
import os
import stat

import pytest
from openssl import private_key, put
from walk import CHECK_VALUE, KNOWN, OTHER, custody_of

from runbook_lib.errors import (
    ArtefactMissing,
    ArtefactsMismatch,
    AwsCallFailed,
    CustodyRefused,
    ImportTokenExpired,
    PlanRefused,
    StepMissing,
    VerificationFailed,
)
from runbook_lib.inputs.kms import EncryptKeyMaterialInputs, GetParametersForImportInputs
from runbook_lib.material import material_set, recovery_copies, recovery_keys
from runbook_lib.material.key_material import KeyMaterial
from runbook_lib.run.records import MaterialRecord
from runbook_lib.steps import encrypt_key_material, existing_set, get_parameters_for_import, plaintext_file

KILLED = 86


def opened(walk):
    """Open the training copy that lies in the run."""
    (holder,) = walk.run.record("03_encrypt_key_material")["custody"]["holders"]
    key = recovery_keys.load_recovery_private_key((walk.path / "TRAINING-recovery-private-key.pem").read_bytes())
    return recovery_copies.open_copy((walk.path / holder["file"]).read_bytes(), key)


def set_in(folder):
    """Return the files of a set that lie in a folder."""
    return sorted(
        path.name for path in folder.iterdir() if material_set.belongs(path.name) or path.name == "custody.json"
    )


# One set --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["recovery_key", "split", "file", "none"])
def test_every_custody_goes_the_whole_way(walk, kind):
    """From 03 to a key that is Enabled, with the known material: KMS and openssl agree on its check value."""
    walk.start().pair().encrypt(**custody_of(kind, walk))
    walk.bring_in()
    assert "Enabled" == walk.key["KeyState"]
    record = walk.run.record("03_encrypt_key_material")["custody"]
    assert (kind, CHECK_VALUE) == (record["custody"], record["key_check_value"])
    assert {"recovery_key": 2, "split": 3, "file": 0, "none": 0}[kind] == len(record["holders"])
    assert record == json.loads((walk.path / "custody.json").read_text())["custody"]


def test_generated_material_is_in_the_custody_copy(walk):
    """What the training key opens has the key check value that was shown, and is what KMS holds."""
    walk.start().pair().encrypt()
    walk.bring_in()
    material = opened(walk)
    assert walk.run.record("03_encrypt_key_material")["key_check_value"] == material.key_check_value
    put(walk.keys / "again", bytes(material))
    walk.delete_material()
    walk.pair()
    with pytest.raises(PlanRefused, match="runbook recover demo"):
        walk.encrypt(key_material_source="file", key_material_file=str(walk.keys / "again"))


@pytest.mark.slow
def test_a_run_killed_at_any_write_of_03_never_leaves_a_mixed_set(walk):
    """SIGKILL's like at each write: either the set is whole, or 04 refuses it; the next 03 mends it."""
    walk.start().pair().encrypt()
    writes = 0
    while True:
        child = os.fork()
        if child == 0:
            _encrypt_and_die(walk, after=writes)
        _, status = os.waitpid(child, 0)
        whole = (walk.path / "custody.json").is_file()
        if whole:
            told = json.loads((walk.path / "custody.json").read_text())
            material_set.read_set(
                lambda name: (walk.path / name).read_bytes(),
                fingerprint=material_set.key_material.fingerprint((walk.path / "custody.json").read_bytes()),
                advice="",
            )
            assert set(told["files"]) | {"custody.json"} == set(set_in(walk.path))
        if whole and not _agrees(walk):
            with pytest.raises((StepMissing, ArtefactsMismatch), match="03_encrypt_key_material"):
                walk.plan_import()
        if not whole:
            with pytest.raises((ArtefactsMismatch, ArtefactMissing)):
                existing_set.read_custody(walk.run, MaterialRecord.so_far(walk.run))
        walk.encrypt(accept_plaintext_file=bool(writes % 2))
        assert opened(walk).key_check_value == walk.run.record("03_encrypt_key_material")["key_check_value"]
        if os.waitstatus_to_exitcode(status) != KILLED:
            break
        writes += 1
    assert 6 <= writes
    assert [] == [path.name for path in walk.path.glob(".*.bin.*")]
    walk.bring_in()
    assert "Enabled" == walk.key["KeyState"]


def _agrees(walk):
    content = (walk.path / "custody.json").read_bytes()
    return walk.run.made("03_encrypt_key_material")["set"] == material_set.key_material.fingerprint(content)


def _encrypt_and_die(walk, *, after):
    """In a child: do 03 with other choices, and die after so many files were renamed or removed."""
    import sys

    left = after

    def count(event, arguments):
        nonlocal left
        if event in ("os.rename", "os.remove") and str(walk.path) in str(arguments[0]):
            if left == 0:
                os._exit(KILLED)
            left -= 1

    try:
        sys.addaudithook(count)
        walk.encrypt(accept_no_custody=True)
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.parametrize("name", ["EncryptedKeyMaterial.bin", "CUSTODY", "custody.json", "KeyMaterial"])
def test_04_refuses_a_set_that_does_not_match(walk, name):
    """One file of another run, put among the others: each is recognised, nothing is sent."""
    walk.start().pair().encrypt()
    (path,) = [path for path in walk.path.iterdir() if path.name.startswith(name)]
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))
    with pytest.raises(ArtefactsMismatch):
        walk.plan_import()
    path.unlink()
    with pytest.raises(ArtefactMissing):
        walk.plan_import()
    assert "PendingImport" == walk.key["KeyState"]


def test_04_refuses_a_set_that_was_made_for_another_pair(walk):
    """The pair was fetched again in between: the material must be wrapped again."""
    walk.start().pair().encrypt()
    walk.pair(wrapping_key_spec="RSA_3072")
    with pytest.raises(ArtefactsMismatch, match="another wrapping key"):
        walk.plan_import()


# Superseding ------------------------------------------------------------------------------------------------------


def test_before_the_import_new_material_supersedes_old_with_its_custody(walk):
    """No copy of the old material stays: a copy that opens to something else than the key is worse than none."""
    walk.start().pair().encrypt(**custody_of("recovery_key", walk))
    before = set(set_in(walk.path))
    plan = walk.plan(custody="split", recovery_public_keys=[walk.public(0), walk.public(1)])
    assert ["delete", "create"] == [change.action for change in plan.changes[:2]]
    walk.encrypt(custody="split", recovery_public_keys=[walk.public(0), walk.public(1)])
    copies = {name for name in set_in(walk.path) if name.startswith("KeyMaterial.")}
    assert not copies & before
    assert 2 == len(copies)
    assert CHECK_VALUE != walk.run.record("03_encrypt_key_material")["key_check_value"]


def test_the_same_choices_keep_the_set(walk):
    """03 again changes nothing."""
    walk.start().pair().encrypt()
    before = {name: (walk.path / name).read_bytes() for name in set_in(walk.path)}
    assert ["keep"] == [change.action for change in walk.plan().changes]
    walk.encrypt()
    assert before == {name: (walk.path / name).read_bytes() for name in set_in(walk.path)}


def test_after_the_import_other_choices_come_too_late(walk):
    """Nothing supersedes what the key has: the run stops and names the way."""
    walk.start().pair().encrypt()
    walk.bring_in()
    with pytest.raises(PlanRefused, match=r"custody can no longer change.*runbook recover demo"):
        walk.encrypt(custody="file")
    assert ["keep"] == [change.action for change in walk.plan().changes]


def test_after_a_loss_an_unattended_run_stops_and_asks_for_recover(walk):
    """02 fetches a new pair, 03 must not make new material for it."""
    walk.start().pair().encrypt()
    walk.bring_in()
    walk.delete_material()
    walk.pair(wrapping_key_spec="RSA_3072")
    before = set_in(walk.path)
    with pytest.raises(PlanRefused, match="runbook recover demo"):
        walk.encrypt()
    assert before == set_in(walk.path)


def test_an_import_whose_answer_nobody_saw_is_not_superseded_either(walk):
    """Killed right after ImportKeyMaterial, then the material went: only KMS knows, and 02 asks it."""
    walk.start().pair().encrypt()
    step = walk.step("04")
    plan = walk.plan_import()
    with step.applying(plan):
        step.run.intend(step.name, "kms:ImportKeyMaterial")
        step.client("kms").import_key_material(
            **plan.changes[0].request,
            ImportToken=step.run.read("ImportToken.bin"),
            EncryptedKeyMaterial=step.run.read("EncryptedKeyMaterial.bin"),
        )
    walk.delete_material()
    walk.pair(wrapping_key_spec="RSA_3072")
    with pytest.raises(PlanRefused, match=r"the key had this material.*runbook recover demo"):
        walk.encrypt(custody="none", accept_no_custody=True)


def test_a_key_that_had_material_gets_no_generated_one(walk):
    """A run that lost its folder but not its key: new bits would be refused by KMS, so none are made."""
    walk.start().pair().encrypt(**custody_of("recovery_key", walk))
    walk.bring_in()
    walk.delete_material()
    steps = walk.run._state["steps"]
    for name in ("02_get_parameters_for_import", "03_encrypt_key_material", "04_import_key_material"):
        del steps[name]
    state = json.loads((walk.path / "state.json").read_text())
    (walk.path / "state.json").write_text(json.dumps({**state, "steps": steps}))
    walk.pair()
    with pytest.raises(PlanRefused, match="KMS accepts no other"):
        walk.encrypt()
    for path in walk.path.glob("KeyMaterial.recovery-*.bin"):
        path.unlink()
    walk.encrypt(key_material_source="file", key_material_file=walk.material(OTHER, "other"))
    with pytest.raises(AwsCallFailed, match="not the material that the key had"):
        walk.bring_in()
    walk.encrypt(**custody_of("recovery_key", walk))
    walk.bring_in()
    assert "Enabled" == walk.key["KeyState"]


def test_an_expired_token_after_a_loss_names_recover(walk):
    """Running 02 and 03 again would not help then."""
    from kms_support import advance

    walk.start().pair().encrypt()
    walk.bring_in()
    walk.delete_material()
    advance(walk.endpoint, hours=25)
    with pytest.raises(ImportTokenExpired, match="runbook recover demo"):
        walk.plan_import()


# Custody in clear, and nobody's ---------------------------------------------------------------------------------


def test_the_file_in_clear_is_destroyed_after_the_import_unless_kept_on_purpose(walk):
    """And the record says which."""
    walk.start().pair().encrypt(**{**custody_of("file", walk), "keep_plaintext_file": False})
    plain = walk.path / "PlaintextKeyMaterial.bin"
    assert (KNOWN, 0o600) == (plain.read_bytes(), stat.S_IMODE(plain.stat().st_mode))
    walk.bring_in()
    assert not plain.exists()
    assert walk.run.record("04_import_key_material")["plaintext_file"].startswith("destroyed 20")
    assert walk.run.record("04_import_key_material")["plaintext_file"] == plaintext_file.delete_plaintext(walk.run)


def test_the_file_in_clear_that_is_kept_on_purpose_stays(walk):
    """The twin."""
    walk.start().pair().encrypt(**custody_of("file", walk))
    walk.bring_in()
    assert KNOWN == (walk.path / "PlaintextKeyMaterial.bin").read_bytes()
    assert "kept on purpose" == walk.run.record("04_import_key_material")["plaintext_file"]


def as_aws(step):
    """Let a step believe that its run is a real one; its clients stay the sandbox's."""
    step.session.identity()
    step.run._state["target"]["target"] = "aws"
    return step


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"custody": "file"}, CustodyRefused, "accept_plaintext_file: true"),
        (
            {"custody": "file", "accept_plaintext_file": True},
            CustodyRefused,
            "keep_plaintext_file or accept_no_custody",
        ),
        ({}, CustodyRefused, "recovery_public_keys is empty with target aws"),
        ({"custody": "split"}, CustodyRefused, "recovery_public_keys is empty with target aws"),
    ],
    ids=["file", "file-destroyed", "no-recovery-key", "no-custodians"],
)
def test_with_target_aws_nothing_is_left_to_chance(walk, given, error, words):
    """In clear only if said explicitly, and never with nobody keeping the original."""
    walk.start().pair()
    step = as_aws(walk.step("03"))
    with pytest.raises(error, match=words):
        encrypt_key_material.plan(step, EncryptKeyMaterialInputs.check(given))
    accepted = {"custody": "file", "accept_plaintext_file": True, "keep_plaintext_file": True}
    plan = encrypt_key_material.plan(step, EncryptKeyMaterialInputs.check(accepted))
    assert "kept after the import" in repr(plan)


def test_verify_finds_a_custody_file_that_went(walk):
    """03 is not finished on a set with a hole."""
    walk.start().pair().encrypt()
    path = next(walk.path.glob("KeyMaterial.*.bin"))
    path.write_bytes(b"x" * len(path.read_bytes()))
    with pytest.raises(VerificationFailed, match="every file of the set is unchanged"):
        encrypt_key_material.verify(walk.step("03"))


# Files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o137])
def test_every_file_is_0600_and_every_folder_0700_whatever_the_umask(walk, mask):
    """Nothing in a run is for others."""
    before = os.umask(mask)
    try:
        walk.start().pair().encrypt(**custody_of("file", walk))
        walk.bring_in()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in [walk.path, *walk.path.rglob("*")]}
    folders = {path.name for path in [walk.path, *walk.path.rglob("*")] if path.is_dir()}
    if mask != 0o137:
        assert {0o700} == {mode for name, mode in modes.items() if name in folders}
    assert {0o600} == {mode for name, mode in modes.items() if name not in folders}


def test_no_link_is_followed_when_the_set_is_written(walk, tmp_path):
    """A link where a file of the set belongs is replaced; what it points to is not touched."""
    walk.start().pair().encrypt()
    target = put(tmp_path / "precious", b"untouched")
    for name in ("EncryptedKeyMaterial.bin", "custody.json", "PlaintextKeyMaterial.bin"):
        (walk.path / name).unlink(missing_ok=True)
        (walk.path / name).symlink_to(target)
    (walk.path / "PlaintextKeyMaterial.bin").unlink()
    walk.encrypt(**custody_of("file", walk))
    assert b"untouched" == target.read_bytes()
    assert not [path for path in walk.path.iterdir() if path.is_symlink()]
    assert KeyMaterial(KNOWN) == KeyMaterial.from_file(walk.path / "PlaintextKeyMaterial.bin")


def test_the_wrapping_key_that_was_exchanged_is_not_used(walk):
    """Whoever replaces WrappingPublicKey.bin does not get the material."""
    from openssl import public_der

    walk.start().pair()
    (walk.path / "WrappingPublicKey.bin").write_bytes(public_der(private_key(2048, 7)))
    with pytest.raises(ArtefactsMismatch, match="not the file that step 02 wrote"):
        walk.encrypt()
    assert [] == set_in(walk.path)
    assert (
        "create"
        == get_parameters_for_import.plan(
            walk.step("02"), GetParametersForImportInputs.check({"wrapping_key_spec": "RSA_2048"})
        )
        .changes[0]
        .action
    )
