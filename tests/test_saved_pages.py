"""Pages that JupyterLab saved are evidence: they read the same for whoever opens them without a kernel."""

from __future__ import annotations

import copy
import json

import pytest
from jupyter_server.services.contents.filemanager import FileContentsManager

from runbook_cli.lab.saved_pages import on_save, without_widgets
from runbook_lib.run.run import Run

WIDGET = "application/vnd.jupyter.widget-view+json"
PAGE = {
    "type": "notebook",
    "content": {
        "metadata": {"widgets": {"state": "s"}, "kernelspec": {"name": "python3"}},
        "cells": [
            {"cell_type": "markdown", "source": "text"},
            {"cell_type": "code", "outputs": [
                {"output_type": "display_data", "data": {WIDGET: {}, "text/html": "<table>", "text/plain": "t"}},
                {"output_type": "display_data", "data": {WIDGET: {}, "text/plain": "slider"}},
                {"output_type": "stream", "name": "stdout", "text": "line"},
            ]},
        ],
    },
}  # fmt: skip


def test_a_form_is_saved_as_its_table():
    """The widget's face goes, the table and the text stay, and so does all else."""
    saved = copy.deepcopy(PAGE)
    without_widgets(saved, path="x.ipynb")
    form, slider, line = saved["content"]["cells"][1]["outputs"]
    assert {"text/html": "<table>", "text/plain": "t"} == form["data"]
    assert WIDGET in slider["data"], "what has no other face would be lost"
    assert "line" == line["text"]
    assert {"kernelspec": {"name": "python3"}} == saved["content"]["metadata"]


def test_other_files_are_left_alone():
    """A text, a folder, a notebook without content."""
    for model in ({"type": "file", "content": "cells"}, {"type": "directory"}, {"type": "notebook"}):
        before = copy.deepcopy(model)
        without_widgets(model)
        assert before == model


def test_jupyter_takes_the_hook_by_its_name():
    """The command passes it as an import string; Jupyter imports it and calls it with the model."""
    manager = FileContentsManager(pre_save_hook="runbook_cli.lab.saved_pages.on_save")
    assert manager.pre_save_hook is on_save


def executed(run_id="demo", attempt="a1", *, opened=1, later=2):
    """Return a page on which 01 was opened for a run, and a plan below it was shown."""
    text = f"01_create_key of run '{run_id}' · SANDBOX · account 123456789012 · eu-west-2"
    shown = {
        "output_type": "execute_result", "execution_count": opened, "data": {"text/plain": [text]},
        "metadata": {"runbook": {"attempt": attempt}},
    }  # fmt: skip
    plan = {"output_type": "stream", "name": "stdout", "text": "1 to create"}
    cells = [
        {"cell_type": "markdown", "source": "# 1. Create a KMS key", "metadata": {}},
        {"cell_type": "code", "source": "step", "outputs": [shown], "execution_count": opened, "metadata": {}},
        {"cell_type": "code", "source": "plan", "outputs": [plan], "execution_count": later, "metadata": {}},
    ]
    return {"type": "notebook", "content": {"metadata": {}, "nbformat": 4, "nbformat_minor": 5, "cells": cells}}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs, in the runs folder of a lab."""
    monkeypatch.setenv("RUNBOOK_RUNS_DIR", str(tmp_path))
    target = {"target": "sandbox", "account_id": "123456789012", "region": "eu-west-2", "sandbox_id": "s"}
    for name in ("demo", "other"):
        Run.create(name, runs_dir=tmp_path, target=target)
    return tmp_path


def save(model, path="_notebooks/01_create_key.ipynb"):
    """Save a page as JupyterLab does; return what is written to `path`."""
    on_save(model=model, path=path, contents_manager=None)
    return model["content"]["cells"]


def kept(runs, run_id="demo"):
    """Return the executed notebooks of a run: name to cells."""
    files = sorted((runs / run_id / "notebooks").iterdir())
    return {file.name: json.loads(file.read_text())["cells"] for file in files}


def test_a_walk_is_kept_in_the_run_that_its_first_output_names(runs):
    """With its outputs, private; the page itself is written without them."""
    cells = save(executed())
    assert [None, []] == [cells[1]["execution_count"], cells[1]["outputs"]]
    assert ["01_create_key.ipynb"] == list(kept(runs))
    assert "1 to create" == kept(runs)["01_create_key.ipynb"][2]["outputs"][0]["text"]
    assert 0o600 == (runs / "demo" / "notebooks" / "01_create_key.ipynb").stat().st_mode & 0o777
    assert {} == kept(runs, "other")


def test_each_opening_of_a_step_is_one_attempt_however_often_it_is_saved(runs):
    """Saved again, the same file; opened again, another, and the first stays."""
    for attempt in ("a1", "a1", "a2", "a1"):
        save(executed(attempt=attempt))
    assert ["01_create_key.attempt-2.ipynb", "01_create_key.ipynb"] == list(kept(runs))


def test_what_another_run_left_below_on_the_page_is_not_kept_as_this_runs(runs):
    """The step was opened for another run; the plan below is still that of the run before."""
    save(executed())
    save(executed("other", "a2", opened=3, later=2))
    (cells,) = kept(runs, "other").values()
    assert [3, None] == [cell["execution_count"] for cell in cells[1:]]
    assert [] == cells[2]["outputs"]


@pytest.mark.parametrize("named", ["../demo", "gone", "demo/../other", "/etc", ""])
def test_a_page_that_names_no_run_here_is_kept_nowhere_and_saved(runs, named):
    """An output is a text that anybody can write: it leads to no other folder."""
    before = sorted(runs.rglob("*"))
    assert [] == save(executed(named))[1]["outputs"]
    assert before == sorted(runs.rglob("*"))


def test_a_page_of_ones_own_keeps_its_outputs(runs):
    """Only the runbook's own pages, which every run shares, are stored without outputs."""
    for path in ("_notebooks/my_notes.ipynb", "demo/notebooks/01_create_key.ipynb", "01_create_key.ipynb"):
        assert 1 == len(save(executed(), path)[1]["outputs"])


def test_a_page_is_saved_even_if_the_walk_cannot_be_kept(runs, caplog):
    """The notebook's folder is in the way: the save goes on, and the log says what is missing."""
    (runs / "demo" / "notebooks").rmdir()
    (runs / "demo" / "notebooks").write_text("a file")
    save(executed())
    assert "01_create_key.ipynb is not kept" in caplog.text
