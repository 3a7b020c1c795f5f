"""Mutation test of the modules that guard key material and accounts: change the code, and count the changes that no test sees.

mutmut makes the mutants and runs the tests, in a copy of the repository in a temporary folder. Excluded is wording: the
arguments of a `raise`, and texts that contain a space. A mutant that lives is listed with the line that it changes, in the
form of tools/mutants-equivalent.txt, which holds those that cannot be seen, with the reason. Not part of CI: it takes hours.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
EQUIVALENT = Path(__file__).with_name("mutants-equivalent.txt")
MUTMUT = "mutmut==3.8.1"
KILLED_AT_LEAST = 0.95
# What is mutated, and the tests that guard it.
GUARDED: dict[str, tuple[list[str], list[str]]] = {
    "policies": (["runbook_lib/policies/*.py"], ["policy", "policy_documented", "policy_words"]),
    "create_once": (["runbook_lib/aws/create_once.py"], ["changes"]),
    "session": (["runbook_lib/aws/session.py"], ["session", "session_rules", "target", "denials"]),
    "recovery_copies": (
        ["runbook_lib/material/recovery_copies.py", "runbook_lib/material/open_recovery_copy.py"],
        ["custody", "opening", "recovery_keys"],
    ),
    "key_material": (["runbook_lib/material/key_material.py"], ["key_material"]),
    "encrypt": (["runbook_lib/steps/encrypt_key_material.py"], ["wrapping"]),
    "clean_up": (["runbook_lib/steps/clean_up.py"], ["ownership", "look_again", "stale_plans"]),
    "run": (["runbook_lib/run/run.py"], ["run", "records", "drafts"]),
}
_COPIED = (
    "runbook_*",
    "notebooks",
    "parameters",
    "docs",
    "tools",
    "tests",
    "conftest.py",
    "*.md",
    "LICENSE",
    "Makefile",
)


def main() -> None:
    """Run the mutants of the modules named (default: all), print a table, and exit with 1 if one falls below 95 %."""
    parser = argparse.ArgumentParser(description="Mutation test of the modules that guard.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"default: all of {', '.join(GUARDED)}")
    parser.add_argument("--sample", type=int, default=0, help="mutants per module, always the same; 0 for all")
    parser.add_argument("--children", type=int, default=1, help="mutants that are tested at the same time")
    asked = parser.parse_args()
    if unknown := set(asked.modules) - set(GUARDED):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(GUARDED)}")
    rows, low = [], False
    with tempfile.TemporaryDirectory(prefix="mutants-") as made:
        packages = Path(made, "packages")
        _install(packages)
        for module in asked.modules or GUARDED:
            start = time.monotonic()
            found = _tested(
                Path(made, module), packages, *GUARDED[module], sample=asked.sample, children=asked.children
            )
            known = _known()
            killed = sum(state == "killed" for _, state in found)
            wording = sum(state == "wording" for _, state in found)
            alive = [line for line, state in found if state == "alive" and line not in known]
            equivalent = sum(state == "alive" and line in known for line, state in found)
            share = killed / max(1, killed + len(alive))
            low |= share < KILLED_AT_LEAST
            for line in alive:
                print("alive", line, flush=True)
            rows.append(
                f"{module:<16}{killed + len(alive) + equivalent:>8}{killed:>8}{len(alive):>7}{equivalent:>12}{wording:>9}"
                f"{share:>8.1%}{(time.monotonic() - start) / 60:>6.0f}"
            )
            print(rows[-1], flush=True)
    print(
        f"\n{'module':<16}{'mutants':>8}{'killed':>8}{'alive':>7}{'equivalent':>12}{'wording':>9}{'share':>8}{'min':>6}"
    )
    print("\n".join(rows))
    sys.exit(low)


def _install(folder: Path) -> None:
    """Install mutmut beside the environment, which stays as locked. What it shares with the lock has the lock's version."""
    words = [
        "pip",
        "install",
        "-q",
        "--no-verify-hashes",
        "-c",
        str(ROOT / "requirements.lock"),
        "--target",
        str(folder),
    ]
    subprocess.run([str(Path(sys.executable).with_name("uv")), *words, MUTMUT], check=True)  # noqa: S603


def _tested(
    tree: Path, packages: Path, mutated: list[str], tests: list[str], *, sample: int, children: int
) -> list[tuple[str, str]]:
    """Return each mutant's changed line with `killed`, `alive` or `wording`."""
    for path in (path for pattern in _COPIED for path in ROOT.glob(pattern)):
        if path.is_dir():
            shutil.copytree(path, tree / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            tree.mkdir(exist_ok=True)
            shutil.copy(path, tree / path.name)
    (tree / "tools" / "mutants-equivalent.txt").unlink(missing_ok=True)
    files = [f"tests/test_{name}.py" for name in tests if (tree / f"tests/test_{name}.py").exists()]
    settings = {
        "source_paths": ["runbook_lib"],
        "only_mutate": mutated,
        "process_isolation": "forkserver",  # the children that tests start are not taken for mutants
        "also_copy": [path.name for path in sorted(tree.iterdir()) if path.name not in ("runbook_lib", "tests")],
        "pytest_add_cli_args": ["-p", "no:nbval", "-p", "no:randomly"],
        "pytest_add_cli_args_test_selection": files,
    }
    text = (ROOT / "pyproject.toml").read_text()
    table = "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
    (tree / "pyproject.toml").write_text(f"{text}\n[tool.mutmut]\n{table}\n")
    if sample:
        _mutmut(tree, packages, "nothing", children)  # makes the mutants, and tests none
    lines = dict(_lines(tree / "mutants"))
    if sample:
        chosen = [name for name, line in sorted(lines.items()) if line]
        chosen = random.Random(12).sample(chosen, min(sample, len(chosen)))  # noqa: S311
        _mutmut(tree, packages, *chosen, children)
    else:
        _mutmut(tree, packages, children)
        lines = dict(_lines(tree / "mutants"))
    codes = {
        name: code
        for path in (tree / "mutants").rglob("*.meta")
        for name, code in json.loads(path.read_text())["exit_code_by_key"].items()
    }
    if sum(code is not None for code in codes.values()) < (len(chosen) if sample else len(codes)):
        sys.exit("mutmut did not finish:\n" + (tree / "mutmut.log").read_text()[-3000:])
    return [
        (lines[name], "wording" if not lines[name] else "alive" if code in (0, 5, 33) else "killed")
        for name, code in codes.items()
        if code is not None
    ]


def _mutmut(tree: Path, packages: Path, *words: object) -> None:
    *names, children = map(str, words)
    code = "import sys; from mutmut.__main__ import cli; sys.exit(cli())"
    subprocess.run(  # noqa: S603
        [sys.executable, "-c", code, "run", "--max-children", children, *names],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(packages)},
        stdout=(tree / "mutmut.log").open("a"),
        stderr=subprocess.STDOUT,
        check=False,
    )


def _lines(mutants: Path) -> Iterator[tuple[str, str]]:
    """Yield each mutant's name with `module function: changed line`, or "" if only wording is changed."""
    for meta in mutants.rglob("*.meta"):
        path = meta.with_suffix("")
        module = ".".join(path.relative_to(mutants).with_suffix("").parts)
        functions = {
            node.name: node
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef) and "__mutmut_" in node.name
        }
        for key in json.loads(meta.read_text())["exit_code_by_key"]:
            name = key.removeprefix(f"{module}.").rpartition(".")[2]
            base = name.rpartition("__mutmut_")[0]
            original, mutant = functions.get(f"{base}__mutmut_orig"), functions.get(name)
            if original is None or mutant is None:
                continue
            before, after = _source(original).splitlines(), _source(mutant).splitlines()
            changed = [line[2:].strip() for line in difflib.ndiff(before, after) if line.startswith("+ ")]
            same = _without_wording(original) == _without_wording(mutant)
            yield (
                key,
                ""
                if same
                else f"{module} {base.removeprefix('xǁ').removeprefix('x_').replace('ǁ', '.')}: {' '.join(changed)}",
            )


def _without_wording(function: ast.FunctionDef) -> str:
    copy = ast.parse(_source(function))
    for node in ast.walk(copy):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            node.exc.args, node.exc.keywords = [], []
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            node.value = "wording"
    return ast.dump(copy)


def _source(function: ast.FunctionDef) -> str:
    return "\n".join(ast.unparse(statement) for statement in function.body)


def _known() -> set[str]:
    """Return the lines of the mutants that are equivalent; each stands before its reason, which is indented."""
    if not EQUIVALENT.exists():
        return set()
    return {line for line in EQUIVALENT.read_text().splitlines() if line and not line.startswith((" ", "#"))}


if __name__ == "__main__":
    main()
