"""The start page of JupyterLab: what the runbook does, the table of steps, and the progress of the latest runs.

A pure function from runs to Markdown. Colour never carries information that the text does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from runbook_cli.run_state import next_step, target_label
from runbook_lib.aws.seat_file import Seat
from runbook_lib.run import expiry
from runbook_lib.run.run import Run
from runbook_lib.run.steps import CLEAN_UP, START, all_steps

_SHOWN = 8  # other runs; `runbook status` lists all
_HOW_TO_CHANGE = "To work on one of them, type its name into the field Run of 00 and run the cells of 00."

_WHAT = """\
Amazon Aurora can encrypt its storage with an AWS KMS key whose **key material you import yourself**. Each notebook
below is one step: it explains the concept, asks for parameters, shows a plan, applies exactly that plan, and verifies
the result. Open a notebook and run its cells in order with **Shift+Enter**. After typing into a form, click the next
cell first."""

_SANDBOX = """\
**SANDBOX.** All AWS calls go to a simulation of AWS on this machine, with real cryptography. It costs nothing, and
nothing outside it can be changed. It stops together with JupyterLab."""

_ROOM = """\
**SANDBOX · {seat}.** All AWS calls go to the simulation of AWS that your trainer serves, in an account of your seat. It costs
nothing, and nothing outside it can be changed. Close JupyterLab whenever you like, and come back with `make lab`; your page
in the room is <{url}/room>."""

_AWS = """\
<p><b style="color:#dc3e46">⚠ REAL AWS.</b> <span style="color:#dc3e46">No sandbox was started. Changes you apply are
made in your AWS account, which costs money.</span></p>

In the form of 00, choose the target `aws` and enter the 12-digit account id. The run stops if your credentials belong
to another account."""


def start_page(
    runs: Sequence[Run],
    *,
    target: str,
    notebooks: str,
    current: str | None = None,
    edited: Sequence[str] = (),
    room: Seat | None = None,
) -> str:
    """Return the page as Markdown.

    `runs` are the runs to list, oldest first. `current` is the folder name of the run that the notebooks work on, an
    empty text for none; None: the newest. `notebooks` is a path relative to the page, `edited` names edited notebooks,
    `room` is the seat that the runs folder has in a room.
    """
    newest = list(reversed(runs))
    named = newest[0].path.name if current is None and newest else current
    run = next((one for one in newest if one.path.name == named), None)
    others = [one for one in newest if one is not run]
    where = _ROOM.format(seat=f"seat {room.seat}" if room.seat else "trainer", url=room.url) if room else _SANDBOX
    parts = ["# Encrypt Amazon Aurora with your own key material (BYOK)", _WHAT, _AWS if target == "aws" else where]
    parts += ["## Steps", *_next(run, notebooks), _map(run, notebooks)]
    if run is not None:
        parts += ["## Results", _table_of_runs([run]), *_lives(run)]
    parts += ["## Who holds which key", "![Described in words in 00 and 05](START-keys.png)"]
    if others:
        parts += ["## Other runs", _HOW_TO_CHANGE, _table_of_runs(others[:_SHOWN])]
    parts += ["## Good to know", _good_to_know(edited)]
    return "\n\n".join(parts) + "\n"


def _next(run: Run | None, notebooks: str) -> list[str]:
    if run is None:
        return [f"**Start with [00 start]({notebooks}/{START}.ipynb).**"]
    name = next_step(run)
    if not name:
        ended = "cleaned up" if run.is_finished(CLEAN_UP) else "finished"
        return [f"Run `{run.path.name}` is {ended}. Start a new one with [00 start]({notebooks}/{START}.ipynb)."]
    words = all_steps()[name]
    return [
        f"**Continue run `{run.path.name}`: [{words.number} {words.words}]({notebooks}/{name}.ipynb).**",
        "![Described in words in the table below](START-run.png)",
    ]


def _map(run: Run | None, notebooks: str) -> str:
    heading = ["step", "what it does", "time", *([f"run `{run.path.name}`"] if run else [])]
    rows = [heading, [":---"] * len(heading)]
    for step in all_steps().values():
        link = f"[{step.number} {step.words}]({notebooks}/{step.name}.ipynb)"
        rows.append([link, step.line, step.time, *([_standing(run, step.name)] if run else [])])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _standing(run: Run, name: str) -> str:
    section = run.steps.get(name, {})
    if section.get("status") == "finished":
        return "✓ done"
    if name == next_step(run):
        return "**▶ next, started**" if section else "**▶ next**"
    return "started" if section else "·"


def _table_of_runs(runs: Sequence[Run]) -> str:
    rows = ["| run | target | state | evidence | executed notebooks |", "| :--- | :--- | :--- | :--- | :--- |"]
    for run in runs:
        target = run.target
        label = target_label(target["target"])
        word = label if target["target"] == "sandbox" else f"**{label}**"
        name, following = run.path.name, next_step(run)
        state = "cleaned up" if run.is_finished(CLEAN_UP) else f"next {following[:2]}" if following else "finished"
        report = f"[report.html]({name}/report.html)" if (run.path / "report.html").is_file() else "none yet"
        executed = sorted((run.path / "notebooks").glob("??_*.ipynb"))
        links = " ".join(f"[{file.name[:2]}]({name}/notebooks/{file.name})" for file in executed)
        rows.append(
            f"| `{escape(name)}` | {word} {target['account_id']} {target['region']} | {state} | {report} | {links or 'none'} |"
        )
    return "\n".join(rows)


def _lives(run: Run) -> list[str]:
    """Return how long each key material of the run lives, and the command that extends it; dates only, as clocks differ."""
    if run.is_finished(CLEAN_UP) or not (each := expiry.of_each(run)):
        return []
    shown = "; ".join(f"key check value `{value}` {words.partition(',')[0]}" for value, words in each)
    extend = expiry.how_to_extend(run)
    return [f"Key material: {shown}." + (f" To extend it: `{extend}`." if extend else "")]


def _good_to_know(edited: Sequence[str]) -> str:
    lines = [
        "- This page is updated whenever a step finishes; reload it in the browser (F5).",
        "- A notebook that you open again starts from the values of its run, and keeps existing resources.",
        "- All notebooks work on the run that you chose last in the form of 00, in the field Run. A `run_id` that you write "
        "into a parameters cell applies to that notebook only.",
        "- The notebooks here are copies without outputs. What you execute is kept in the run, as listed above.",
        "- The square button (■) interrupts a cell. This is safe: run the cell again to resume.",
        "- Ctrl-C in the terminal stops JupyterLab, its kernels and the sandbox that it started.",
    ]
    lines += [
        f"- `{name}` was edited and is kept as it is. Delete it and restart the lab to get the package's."
        for name in edited
    ]
    return "\n".join(lines)
