"""The README is true: what it shows is what happens, and what it links to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from runbook_cli.main import main
from runbook_lib.run.steps import STEP_INPUTS, table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Every relative link and picture of every page is in the checkout."""
    for target in re.findall(r"\]\(([^)#: ]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_table_of_steps_is_the_one_that_the_library_has():
    """README and notebooks name the same steps in the same words."""
    assert table("notebooks") in README


def test_every_make_target_that_is_named_exists():
    """`make …` in the README works as pasted."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= targets


COMMANDS = re.findall(r"(?:`|bin/|\$ )runbook ([a-z-]+)([^`\n]*)", README)


@pytest.mark.parametrize("command", sorted({command for command, _ in COMMANDS}))
def test_every_command_that_is_named_exists_with_the_options_that_are_shown(command):
    """`runbook …` in the README works as pasted."""
    asked = {
        option for name, rest in COMMANDS if name == command for option in re.findall(r"(?<!\w)--?[a-z][a-z-]*", rest)
    }
    assert asked <= {option for parameter in main.commands[command].params for option in parameter.opts}


def test_what_a_refused_value_prints(world):
    """The README's example of bad input is answered as shown, by the command as shown."""
    command, line = re.search(r"\$ \.venv/bin/runbook (run -p key_alias \S+)\n(error: .+)", README).groups()
    done = world.runbook(*command.split(), code=2)
    assert line == done.stderr.strip()


@pytest.mark.parametrize("file", sorted((ROOT / "parameters").glob("*.yaml")), ids=lambda file: file.name)
def test_parameter_files_name_parameters_only(file):
    """The examples can be copied: every name in them is a parameter."""
    known = {name for model in STEP_INPUTS.values() for name in model.model_fields}
    assert set(yaml.safe_load(file.read_text(encoding="utf-8")) or {}) <= known
