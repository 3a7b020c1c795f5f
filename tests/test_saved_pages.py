"""Pages that JupyterLab saved are evidence: they read the same for whoever opens them without a kernel."""

from __future__ import annotations

import copy

from jupyter_server.services.contents.filemanager import FileContentsManager

from runbook_cli.lab.saved_pages import without_widgets

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
    manager = FileContentsManager(pre_save_hook="runbook_cli.lab.saved_pages.without_widgets")
    assert manager.pre_save_hook is without_widgets
