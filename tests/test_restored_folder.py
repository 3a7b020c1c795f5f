"""A run folder restored from a backup taken before the import: no new material, no false "OK", and the way out is named."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from test_recovery import runbook
from walk import custody_of

from runbook_lib.errors import PlanRefused
from runbook_lib.run.run import Run

pytestmark = pytest.mark.slow

RESTORED = "restored from a backup taken before the import"


def put_back(walk, tmp_path, name):
    shutil.rmtree(walk.path)
    shutil.copytree(tmp_path / name, walk.path)


@pytest.fixture
def backed_up(walk, tmp_path):
    """A run that was copied after 02 and after 03, and then imported."""
    walk.start().pair()
    shutil.copytree(walk.path, tmp_path / "after-02")
    walk.encrypt(**custody_of("recovery_key", walk))
    shutil.copytree(walk.path, tmp_path / "after-03")
    walk.bring_in()
    return walk


def test_03_makes_no_new_material_in_a_restored_folder(backed_up, tmp_path):
    """Restored as it was after 02: 03, which works without AWS, asks for 02, and writes no file."""
    put_back(backed_up, tmp_path, "after-02")
    before = sorted(path.name for path in backed_up.path.iterdir())
    with pytest.raises(PlanRefused, match=r"restored from a backup since step 02.*run notebooks/02_get_parameters"):
        backed_up.encrypt(**custody_of("recovery_key", backed_up))
    assert before == sorted(path.name for path in backed_up.path.iterdir())


def test_02_then_names_the_material_and_the_way_out(backed_up, tmp_path):
    """It asks KMS: the key is Enabled, with material that this folder has no record of; 03 stays refused."""
    put_back(backed_up, tmp_path, "after-02")
    with pytest.raises(PlanRefused, match=RESTORED) as told:
        backed_up.pair()
    assert backed_up.key["CurrentKeyMaterialId"][:16] in str(told.value)
    with pytest.raises(PlanRefused):
        backed_up.encrypt()


def test_after_that_material_was_lost_only_the_same_is_taken(backed_up, tmp_path):
    """The key is PendingImport again: 02 fetches a pair, and 03 takes the material that the key had, not new one."""
    backed_up.delete_material()
    put_back(backed_up, tmp_path, "after-02")
    backed_up.pair()
    with pytest.raises(PlanRefused, match="the key had material"):
        backed_up.encrypt()
    backed_up.encrypt(**custody_of("recovery_key", backed_up))
    assert backed_up.bring_in().passed


def test_a_restored_folder_whose_key_still_waits_goes_on(walk, tmp_path):
    """The twin: nothing was imported; 02 keeps its pair, and 03 makes the set."""
    walk.start().pair()
    shutil.copytree(walk.path, tmp_path / "after-02")
    put_back(walk, tmp_path, "after-02")
    token = (walk.path / "ImportToken.bin").read_bytes()
    walk.pair().encrypt()
    assert token == (walk.path / "ImportToken.bin").read_bytes()
    assert walk.bring_in().passed


def test_a_renamed_folder_is_not_a_restored_one(walk):
    """The runs folder may be renamed: the files are the very same."""
    walk.start().pair()
    walk.folder = walk.folder.rename(walk.folder.with_name("elsewhere"))
    walk.encrypt()


def test_runbook_run_asks_kms_before_it_goes_on_in_a_restored_folder(world, tmp_path):
    """02 is executed again before 03, and refuses; no new material is made."""
    words = ("run", "--run-id", "demo", "-p", "wrapping_key_spec", "RSA_2048", "--kernel", "plain", "--quiet")
    world.ask("/runbook/faults", {"operation": "kms:ImportKeyMaterial", "kind": "error", "status": 500, "count": 99})
    world.runbook(*words, code=1)
    state = json.loads((world.folder / "demo" / "state.json").read_text())
    for name in ("03_encrypt_key_material", "04_import_key_material"):
        del state["steps"][name]
    shutil.copytree(world.folder / "demo", tmp_path / "after-02")
    for file in (tmp_path / "after-02").glob("*"):
        if re.match(r"KeyMaterial|EncryptedKeyMaterial|custody|CUSTODY", file.name):
            file.unlink()
    (tmp_path / "after-02" / "state.json").write_text(json.dumps(state))
    world.ask("/runbook/faults", method="DELETE")
    world.runbook(*words)
    shutil.rmtree(world.folder / "demo")
    shutil.copytree(tmp_path / "after-02", world.folder / "demo")
    done = world.runbook(*words, code=1)
    assert "02_get_parameters_for_import" in done.stderr
    assert "that this run folder has no record of" in done.stderr
    assert [] == list((world.folder / "demo").glob("KeyMaterial.recovery-*"))


def test_04_says_what_may_have_happened_and_what_proves_it(backed_up, tmp_path):
    """Restored as it was after 03, with the true backups: 04 refuses, and `runbook recover` proves that they are."""
    put_back(backed_up, tmp_path, "after-03")
    with pytest.raises(PlanRefused, match=f"{RESTORED}.*`runbook recover demo` proves"):
        backed_up.bring_in()
    assert "KMS accepted it as the same" in runbook(backed_up, "demo", "--private-key", backed_up.private())
    assert (
        backed_up.key["CurrentKeyMaterialId"]
        == Run.open("demo", runs_dir=backed_up.folder).made("04_import_key_material")["key_material_id"]
    )


def test_check_does_not_vouch_for_material_that_was_never_imported(backed_up, tmp_path):
    """It can be restored, and nothing says that the key holds it: exit 1, with the command by which KMS compares."""
    assert "can be restored" in runbook(backed_up, "demo", "--private-key", backed_up.private(), "--check")
    put_back(backed_up, tmp_path, "after-03")
    told = runbook(backed_up, "demo", "--private-key", backed_up.private(), "--check", code=1)
    assert "has no record that it was imported" in told
    assert "runbook recover demo" in told
