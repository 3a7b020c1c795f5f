"""Plain technical English: words that crept in before, and what to write instead, wherever a person reads.

A hit is a reason to rewrite the sentence. Extend EXCEPTIONS only for names and for texts of others.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml

from runbook_lib.run.steps import STEP_INPUTS

ROOT = Path(__file__).parent.parent
PACKAGES = ("runbook_lib", "runbook_cli", "runbook_sandbox", "runbook_kernels")

# What must not come back, as a pattern, and what to write instead.
WORDS = {
    r"\b(mend|mends|mended)\b": "fix",
    r"\bmak(e|es|ing) room\b": "free disk space",
    r"\b(bring|brings|brought|bringing)\b": "provide, import again, or copy",
    r"(?<![Tt]here )\b(is|are|was) no (?!longer\b|failure\b)\w+": "is not a valid ...",
    r"\banew\b": "again",
    r"\bread it yourself\b": "review it manually",
    r"\b(is|are|was|were|be|long) gone\b": "is deleted",
    r"\b(is|are|was|were|what is|is not) there\b(?! (is|are|was)\b)": "exists",
    r"\bstands? in\b(?! for\b)": "is in",
    r"\b[Tt]he post\b": "the AWS post",
    r"\b[Ss]ay whether\b": "Return whether",
    r"\b(go|goes|went|going) on\b": "resume, continue",
    r"\bnothing twice\b": "creates no resource twice",
    r"\b[Oo]riginals?\b": "key material, key material backup",
    r"\b[Ss]trangers?\b": "unexpected files",
    r"\b[Cc]eremon(y|ies)\b": "offline wrapping",
    r"\bevery order\b|\borders? (it|that the sandbox) takes\b": "control command",
    r"\b[Rr]ecovery cop(y|ies)\b|\b[Cc]ustody cop(y|ies)\b": "key material backup",
    r"\bis told\b|\b(be|was|were|are) told\b": "is described, is printed",
    r"\bsays? in red\b": "shows a red banner",
    r"\bof (your|one's) own\b": "name the thing: your key material, a separate account",
}

# What stays as it is, and why. A pattern is removed from a text before it is searched.
EXCEPTIONS = {
    r"\*\*Since the post\.\*\*": "the fixed form for a difference between the AWS post and AWS today",
    r"`[^`\n]*`|<code>[^<]*</code>": "names of files, functions, parameters and API literals",
    r"\b(original_file|bring_back)\b": "names of a parameter and a function, which do not change",
    r"\b[Bb]ring your own key\b": "what BYOK stands for",
}


def found(text: str) -> list[str]:
    """Return each word of the list that is in `text`, with what to write instead."""
    for pattern in EXCEPTIONS:
        text = re.sub(pattern, "", text)
    text = " ".join(text.split())  # a phrase may be broken over two lines
    return [
        f"{match[0]!r}: write {better}" for pattern, better in WORDS.items() for match in re.finditer(pattern, text)
    ]


def pages() -> Iterator[tuple[str, str]]:
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def notebooks() -> Iterator[tuple[str, str]]:
    """Yield the Markdown that people write; the head comes from steps.yaml, which has a test below."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown" and "head" not in cell.metadata.get("tags", []):
                yield f"{path.name} {cell.id}", cell.source


def strings(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the string literals of a module, docstrings included; the parts of an f-string as one text."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            text = node.value
        else:
            continue
        if " " in text:  # a single word is a key or an API literal
            yield f"{path.relative_to(ROOT)}:{node.lineno}", text


def declared() -> Iterator[tuple[str, str]]:
    """Yield labels and help of all inputs, as forms and `papermill --help-notebook` show them."""
    for step, model in STEP_INPUTS.items():
        for name, field in model.model_fields.items():
            yield f"{step} {name}", f"{field.title}. {field.description}"


def steps() -> Iterator[tuple[str, str]]:
    """Yield the texts of the table of steps, from which heads, navigation and the start page are generated."""
    for row in yaml.safe_load((ROOT / "runbook_lib" / "data" / "steps.yaml").read_text(encoding="utf-8")):
        for name in ("title", "line", "reads", "writes", "changes", "cost", "time"):
            yield f"{row['name']} {name}", row[name]


def judged(texts: Iterator[tuple[str, str]]) -> list[str]:
    return [f"{place}: {hit}" for place, text in texts for hit in found(text)]


@pytest.mark.parametrize("texts", [pages, notebooks, declared, steps], ids=lambda texts: texts.__name__)
def test_pages_notebooks_and_inputs_are_in_plain_english(texts):
    """README, docs, Markdown cells, labels, help, and the table of steps."""
    assert list(texts())
    assert [] == judged(texts())


@pytest.mark.parametrize("package", PACKAGES)
def test_messages_and_docstrings_are_in_plain_english(package):
    """Every string of the package that has more than one word."""
    modules = sorted((ROOT / package).rglob("*.py"))
    assert modules
    assert [] == [hit for path in modules for hit in judged(strings(path))]


@pytest.mark.parametrize(
    "text",
    [
        "cannot use the runs folder; mend it", "make room and run this again", "bring `hand-back.zip` to 03",
        "'x' is no instance class", "delete it and start anew", "the old key is gone", "ask for what is there",
        "as the post has it", "Say whether it opens", "a killed run goes on", "the original key material",
        "unexpected: strangers in the folder", "the key ceremony", "one recovery copy", "a cluster under a key of your own",
    ],
)  # fmt: skip
def test_the_list_finds_what_it_is_for(text):
    """Each of these was once in the runbook."""
    assert found(text)


@pytest.mark.parametrize(
    "text",
    [
        "**Since the post.** The root certificate is new.", "the AWS post reviews the policy", "`original_file`: a path",
        "there is no key", "StorageEncrypted is no longer sufficient", "a key that is kept is no failure",
        "`KeyMaterial.recovery-….bin` is kept",
    ],
)  # fmt: skip
def test_the_list_leaves_good_english_alone(text):
    """Fixed forms, names and ordinary sentences."""
    assert [] == found(text)
