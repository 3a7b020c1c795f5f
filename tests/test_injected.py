"""Nothing that is asked for is ignored: injected names that no step has, and a parameters cell without its tag, are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from papermill.translators import PythonTranslator

from runbook_lib.errors import InputError
from runbook_lib.inputs.start import StartInputs
from runbook_lib.pages.cells import require_injected
from runbook_lib.run.paths import notebooks_folder

PARAMETERS = 'run_id: str = "demo"  # Run.\nkey_alias: str = "alias/aurora-byok"\n'


def injected(**given: object) -> str:
    """Return the cell as papermill writes it."""
    return str(PythonTranslator.codify(given))


def test_known_names_pass_also_those_of_other_steps() -> None:
    """One parameter file serves all notebooks."""
    require_injected(["", PARAMETERS, injected(run_id="x", key_alias="alias/y", db_cluster_identifier="z"), "step"])
    require_injected(["", PARAMETERS, "kei_alias = 1"])


@pytest.mark.parametrize(("name", "near"), [
    ("kei_alias", "; did you mean 'key_alias'?"), ("db_cluster_id", "; did you mean 'db_cluster_identifier'?"),
    ("xyzzy", ""),
])  # fmt: skip
def test_a_name_that_no_step_has_is_refused_with_the_near_one(name: str, near: str) -> None:
    """It would have been ignored, and the default used."""
    with pytest.raises(InputError) as caught:
        require_injected(["", PARAMETERS, injected(**{name: "alias/x"})])
    assert [(name, f"is not a parameter of any step{near}")] == list(caught.value.problems)


def test_a_parameters_cell_without_its_tag_is_refused() -> None:
    """papermill then injects above it, and its defaults win."""
    with pytest.raises(InputError, match="has lost its tag"):
        require_injected(["", injected(run_id="x"), PARAMETERS])


def test_a_number_for_the_account_is_answered_with_the_way_that_works() -> None:
    """Also where no YAML is."""
    with pytest.raises(InputError, match=r"in quotes.*papermill: -r account_id 123456789012 in place of -p"):
        StartInputs.check({"account_id": 123456789012})


@pytest.mark.slow
@pytest.mark.parametrize("stripped", [False, True])
def test_papermill_itself_fails(tmp_path: Path, stripped: bool) -> None:
    """The command, on a notebook as it is and on one whose metadata were removed."""
    document = json.loads((notebooks_folder() / "01_create_key.ipynb").read_text())
    for cell in document["cells"]:
        cell["metadata"] = {} if stripped else cell["metadata"]
    (tmp_path / "in.ipynb").write_text(json.dumps(document))
    given = ("run_id", "other") if stripped else ("kei_alias", "alias/x")
    done = subprocess.run(
        [sys.executable, "-m", "papermill", str(tmp_path / "in.ipynb"), str(tmp_path / "out.ipynb"), "-k", "python3",
         "-p", *given],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert 1 == done.returncode
    assert ("has lost its tag" if stripped else "did you mean 'key_alias'?") in done.stderr
