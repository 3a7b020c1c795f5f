"""The notebooks as source: generated parts up to date, cells short, outputs complete and clean."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import nbformat
import pytest
from papermill.inspection import _infer_parameters
from papermill.iorw import load_notebook_node

import runbook_lib
from runbook_lib.run.paths import notebooks_folder
from runbook_lib.run.steps import STEP_INPUTS, all_steps, head

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
from notebooks import is_stripped, parameters_cell

STEPS = list(all_steps())


def read(name):
    return nbformat.read(notebooks_folder() / f"{name}.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_every_notebook_is_a_step_and_every_step_a_notebook():
    """The table of steps is the only list."""
    assert sorted(path.stem for path in notebooks_folder().glob("*.ipynb")) == STEPS
    assert list(STEP_INPUTS) == STEPS


@pytest.mark.parametrize("name", STEPS)
def test_head_and_parameters_are_generated(name):
    """Navigation, table and parameters cell are what the tables say: `make notebooks` writes them."""
    notebook = read(name)
    assert notebook.cells[0].source == head(name)
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert [parameters_cell(all_steps()[name])] == [cell.source for cell in tagged]


@pytest.mark.parametrize("name", STEPS)
def test_papermill_reads_every_parameter_with_type_default_and_help(name):
    """`papermill --help-notebook` shows the same parameters as the form."""
    notebook = load_notebook_node(str(notebooks_folder() / f"{name}.ipynb"))
    seen = {parameter.name: parameter for parameter in _infer_parameters(notebook)}
    model = STEP_INPUTS[name]
    assert list(model.model_fields) == list(seen)
    for field, declared in model.model_fields.items():
        assert declared.default == ast.literal_eval(seen[field].default)
        assert seen[field].inferred_type_name in ("str", "int", "bool", "float", "list", "dict")
        assert seen[field].help.endswith(declared.description)


@pytest.mark.parametrize("name", STEPS)
def test_every_code_cell_was_executed_in_order_without_error(name):
    """A cell without a count is never compared by nbval: a stripped notebook would pass in silence."""
    cells = code_cells(read(name))
    assert list(range(1, len(cells) + 1)) == [cell.execution_count for cell in cells]
    assert [output for cell in cells for output in cell.outputs if output.output_type == "error"] == []
    assert sum(bool(cell.outputs) for cell in cells) >= 5


@pytest.mark.parametrize("name", STEPS)
def test_a_stripped_notebook_is_noticed(name):
    """`make lint` refuses a notebook whose outputs, counts or mark for nbstripout were removed."""
    assert not is_stripped(read(name))
    without_outputs, without_count, without_mark = read(name), read(name), read(name)
    for cell in code_cells(without_outputs):
        cell.outputs = []
    code_cells(without_count)[-1].execution_count = None
    del without_mark.metadata["keep_output"]
    assert [True] * 3 == [is_stripped(one) for one in (without_outputs, without_count, without_mark)]


@pytest.mark.parametrize("name", STEPS)
def test_notebooks_carry_no_widget_state_and_no_traces_of_a_machine(name):
    """What is committed is source and evidence, nothing else."""
    notebook = read(name)
    text = nbformat.writes(notebook)
    assert {"kernelspec", "language_info", "keep_output"} == set(notebook.metadata)
    assert "application/vnd.jupyter.widget" not in text
    assert not re.search(r"/(home|tmp|root|Users|work)/", text)


@pytest.mark.parametrize("name", STEPS)
def test_cells_are_short_and_every_one_is_introduced(name):
    """Sentence, cell, sentence: at most 8 lines, and as much Markdown as code."""
    notebook = read(name)
    code = [cell for cell in code_cells(notebook) if "parameters" not in cell.metadata.get("tags", [])]
    assert max(len(cell.source.splitlines()) for cell in code) <= 8
    assert sum(cell.cell_type == "markdown" for cell in notebook.cells) >= len(code)


@pytest.mark.parametrize("name", STEPS)
def test_notebooks_import_only_the_public_list(name):
    """Plumbing is in the library; a notebook imports names of `runbook_lib.__all__` and nothing else."""
    for cell in code_cells(read(name)):
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(node, ast.Import)
            if isinstance(node, ast.ImportFrom):
                assert node.module == "runbook_lib"
                assert {alias.name for alias in node.names} <= set(runbook_lib.__all__)


SECTIONS = ["Choose", "Plan", "Apply", "Verify", "Try it", "Do it", "What next"]
POST = "https://aws.amazon.com/blogs/database/encrypting-amazon-aurora-using-aws-kms-and-your-own-cmk/"


def markdown_cells(name):
    return [cell.source for cell in read(name).cells if cell.cell_type == "markdown"]


@pytest.mark.parametrize("name", STEPS)
def test_every_notebook_has_the_same_sections_and_a_sentence_under_each(name):
    """A reader knows where to look: choose, plan, apply, verify, try it, do it, what next."""
    cells = [text for text in markdown_cells(name) if "## " in text and not text.startswith("# ")]
    assert [f"## {title}" for title in SECTIONS] == [text.splitlines()[0] for text in cells]
    assert [] == [text for text in cells if not re.match(r"## [^\n]+\n\n\S+ ", text)]


@pytest.mark.parametrize("name", STEPS)
def test_the_concept_is_short(name):
    """At most 120 words before the parameters, not counting what has changed since the AWS post."""
    concept = markdown_cells(name)[1]
    paragraphs = [text for text in concept.split("\n\n") if not text.startswith("**Since the post.**")]
    words = re.sub(r"\]\([^)]*\)", "", "\n\n".join(paragraphs)).split()
    assert 0 < len(words) <= 120


@pytest.mark.parametrize("name", STEPS)
def test_plan_and_evidence_are_followed_by_a_sentence(name):
    """What the reader has just seen is said in words, before the next heading or cell."""
    cells = read(name).cells
    shown = [at for at, cell in enumerate(cells) if re.search(r"^plan$|\.verify\(step\)$", cell.source, re.M)]
    assert 2 == len(shown)
    for at in shown:
        assert "markdown" == cells[at + 1].cell_type
        assert not cells[at + 1].source.startswith("#")


@pytest.mark.parametrize("name", STEPS)
def test_the_aws_post_is_linked_once_where_it_is_mentioned(name):
    """Whoever reads "the AWS post" can open it."""
    text = "\n".join(markdown_cells(name)[1:])
    assert bool(re.search(r"\bpost\b", text.replace(POST, ""))) == text.count(POST)


@pytest.mark.parametrize("name", STEPS)
def test_the_end_of_a_notebook_says_how_the_run_continues(name):
    """What the run folder holds, the next notebook, and the command that executes this one unattended."""
    last = markdown_cells(name)[-1]
    assert "run folder" in last
    assert re.search(r"Next: \[\d\d .+?\]\(.+?\.ipynb\)", last)
    assert re.search(
        rf"\n\nHeadless: `(papermill notebooks/{name}\.ipynb|runbook clean-up|runbook cut-over|runbook rotate|runbook watch) ",
        last,
    )


def test_relative_links_lead_somewhere():
    """Navigation is generated and links work."""
    for name in STEPS:
        for target in re.findall(r"\]\(([^)#:]+\.ipynb)\)", "\n".join(cell.source for cell in read(name).cells)):
            assert (notebooks_folder() / target).is_file(), (name, target)
