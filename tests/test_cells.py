"""Cells that failed or run out of order, in a real kernel as `runbook lab` starts it: one line, and no old value."""

from __future__ import annotations

import ast
import json
import os

import pytest
from jupyter_client.manager import start_new_kernel

from runbook_lib.pages import cells
from runbook_lib.run.paths import notebooks_folder
from runbook_lib.run.run import Run
from runbook_lib.run.steps import STEP_INPUTS


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """A kernel with the lab's extension, a person, and a runs folder with two runs that 00 has finished."""
    folder = tmp_path_factory.mktemp("runs")
    target = {"target": "sandbox", "account_id": "123456789012", "region": "eu-west-2", "sandbox_id": "s"}
    for name in ("demo", "other"):
        run = Run.create(name, runs_dir=folder, target=target)
        run.begin("00_start", inputs={})
        run.finish("00_start", db_cluster_identifier=name)
    environment = {
        **os.environ,
        "RUNBOOK_RUNS_DIR": str(folder),
        "RUNBOOK_ATTENDED": "1",
        "RUNBOOK_CURRENT_RUN": str(folder / ".current-run"),
    }
    manager, client = start_new_kernel(
        env=environment, extra_arguments=["--IPKernelApp.extra_extensions=runbook_lib.pages.cells"]
    )
    yield folder, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.fixture
def run_cell(kernel):
    """Run a cell in a kernel that knows nothing yet; return what it shows, the error line included."""
    folder, client = kernel

    def run(source):
        shown = []

        def listen(message):
            content = message["content"]
            shown.extend([content.get("text", ""), content.get("data", {}).get("text/plain", "")])
            shown.extend(content.get("traceback", []))

        client.execute_interactive(source, output_hook=listen, timeout=30)
        return "\n".join(part for part in shown if part)

    (folder / ".current-run").unlink(missing_ok=True)
    run("%reset -f")
    run("In[:] = ['']")
    run.folder = folder
    return run


OPEN = "from runbook_lib import open_step\nstep = open_step('04_import_key_material', run_id=run_id)\nstep"
PARAMETERS = 'run_id: str = "demo"  # Run. Name of the run folder that the steps share.\nexercises: bool = True'


@pytest.mark.parametrize("name", ["step", "plan", "asked", "form", "evidence", "pictures", "create_key", "exercises"])
def test_in_a_new_kernel_a_cell_says_what_to_run(run_cell, name):
    """An old page, a new kernel: one line, no traceback."""
    shown = run_cell(f"{name}.anything")
    assert shown.startswith(f"CellsNotRun: '{name}' has no value: this kernel is new")
    assert "Run All Above Selected Cell" in shown
    assert 1 == len(shown.splitlines())


def test_a_persons_own_names_have_pythons_own_traceback(run_cell):
    """What somebody writes into a cell is theirs; so is a NameError inside a function."""
    assert "NameError" in run_cell("unknown_thing")
    assert "NameError" in run_cell("def mine():\n    return plan\nmine()")


def test_a_failed_cell_leaves_no_value_of_an_earlier_run(run_cell):
    """The cell that sets them failed: the old step and plan do not serve the cells below."""
    run_cell("step, plan, mine = 1, 2, 3")
    run_cell("plan = 4\nstep = 1 / 0")
    assert "CellsNotRun: 'step' has no value: the cell that sets it failed" in run_cell("step")
    assert "CellsNotRun: 'plan' has no value: the cell that sets it failed" in run_cell("plan")
    assert "3" == run_cell("mine")


def test_a_form_without_the_parameters_cell_says_so(run_cell):
    """Its defaults would stand in the form in place of what the parameters cell says."""
    shown = run_cell("from runbook_lib import start\nstart.form(locals())")
    assert "CellsNotRun: the parameters cell was not run in this kernel" in shown


def test_a_page_as_shipped_works_on_the_current_run_and_says_so(run_cell):
    """The first output names the run, where it comes from, and that it is another than before."""
    run_cell(PARAMETERS)
    assert "04_import_key_material of run 'demo'" in run_cell(OPEN)
    run_cell("form = step.form(locals())")
    (run_cell.folder / ".current-run").write_text("other\n")
    shown = run_cell(OPEN)
    assert shown.startswith("04_import_key_material of run 'other' · SANDBOX")
    assert "Run 'other' is the current run, chosen in 00; the parameters cell has 'demo'." in shown
    assert "ANOTHER RUN THAN BEFORE: this page worked on 'demo' until now" in shown
    run_cell("form = step.form(locals())")
    assert "'other'" in run_cell("form.value")


@pytest.mark.parametrize(
    "cell", ['run_id = "demo"', "# Parameters\nrun_id = 'demo'\nregion = 'eu-west-2'", 'run_id: str = "other"']
)
def test_a_run_that_was_injected_or_edited_wins(run_cell, cell):
    """Even if it is the name that pages are shipped with."""
    (run_cell.folder / ".current-run").write_text("gone\n")
    run_cell(PARAMETERS)
    run_cell(cell)
    named = "other" if "other" in cell else "demo"
    assert f"of run '{named}'" in run_cell(OPEN)


def test_without_a_person_no_page_follows_a_lab(run_cell):
    """papermill and nbval, started from a kernel of the lab for example, work on the run that they are given."""
    (run_cell.folder / ".current-run").write_text("other\n")
    run_cell(f"import os; os.environ['RUNBOOK_ATTENDED'] = '0'\n{PARAMETERS}")
    shown = run_cell(OPEN)
    run_cell("os.environ['RUNBOOK_ATTENDED'] = '1'")
    assert "of run 'demo'" in shown
    assert "current run" not in shown


@pytest.mark.parametrize("content", ["", "\n", "../other", "no such run", "a" * 200, "\xff"])
def test_a_file_that_names_no_run_is_as_good_as_none(run_cell, content):
    """It is a file that anybody can edit: it leads out of the runs folder nowhere."""
    (run_cell.folder / ".current-run").write_text(content, encoding="latin-1")
    run_cell(PARAMETERS)
    assert "of run 'demo'" in run_cell(OPEN)


def test_every_name_that_the_notebooks_set_is_known():
    """A new name in a cell is explained like the others."""
    known = cells.PAGE_NAMES | {name for model in STEP_INPUTS.values() for name in model.model_fields}
    for file in notebooks_folder().glob("*.ipynb"):
        sources = [
            "".join(cell["source"]) for cell in json.loads(file.read_text())["cells"] if cell["cell_type"] == "code"
        ]
        assert set().union(*(cells.assigned(source) for source in sources)) <= known, file.name
        imported = [alias.name for source in sources for node in ast.walk(ast.parse(source))
                    if isinstance(node, ast.ImportFrom) for alias in node.names]  # fmt: skip
        assert set(imported) <= cells.PAGE_NAMES
