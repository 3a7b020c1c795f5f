"""The start page of JupyterLab: what the runbook does, the table of steps, and the progress of the latest runs.

A pure function from runs to Markdown. Colour never carries information that the text does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from runbook_cli.run_state import next_step, target_label
from runbook_lib.run.run import Run
from runbook_lib.run.steps import START, all_steps

_SHOWN = 4  # columns of runs; `runbook status` lists all

_WHAT = """\
Amazon Aurora can encrypt its storage with an AWS KMS key whose **key material you import yourself**. Each notebook
below is one step: it explains the concept, asks for parameters, shows a plan, applies exactly that plan, and verifies
the result. Open a notebook and run its cells in order with **Shift+Enter**. After typing into a form, click the next
cell first."""

_SANDBOX = """\
**SANDBOX.** All AWS calls go to a simulation of AWS on this machine, with real cryptography. It costs nothing, and
nothing outside it can be changed. It stops together with JupyterLab."""

_AWS = """\
<p><b style="color:#dc3e46">⚠ REAL AWS.</b> <span style="color:#dc3e46">No sandbox was started. Changes you apply are
made in your AWS account, which costs money.</span></p>

In the form of 00, choose the target `aws` and enter the 12-digit account id. The run stops if your credentials belong
to another account."""


def start_page(runs: Sequence[Run], *, target: str, notebooks: str, docs: str = "") -> str:
    """Return the page as Markdown.

    `runs` are all runs, oldest first. `notebooks` and `docs` are paths relative to the page; an empty `docs` omits the
    links to the documentation.
    """
    recent = list(reversed(runs))[:_SHOWN]
    parts = ["# Encrypt Amazon Aurora with your own key material (BYOK)", _WHAT, _AWS if target == "aws" else _SANDBOX]
    parts += ["## Steps", *_next(recent, notebooks), _map(recent, notebooks)]
    if recent:
        parts += ["## Results", _results(recent)]
    parts += ["## Who holds which key", "![Described in words in 00 and 05](START-keys.png)"]
    parts += ["## Good to know", _good_to_know(docs)]
    return "\n\n".join(parts) + "\n"


def _next(recent: Sequence[Run], notebooks: str) -> list[str]:
    if not recent:
        return [f"**Start with [00 start]({notebooks}/{START}.ipynb).**"]
    run = recent[0]
    name = next_step(run)
    if not name:
        return [f"Run `{run.run_id}` is finished. Start a new one with [00 start]({notebooks}/{START}.ipynb)."]
    words = all_steps()[name]
    return [
        f"**Continue run `{run.run_id}`: [{words.number} {words.words}]({notebooks}/{name}.ipynb).**",
        "![Described in words in the table below](START-run.png)",
    ]


def _map(recent: Sequence[Run], notebooks: str) -> str:
    heading = ["step", "what it does", "time", *(f"run `{run.run_id}`" for run in recent)]
    rows = [heading, [":---"] * len(heading)]
    for step in all_steps().values():
        link = f"[{step.number} {step.words}]({notebooks}/{step.name}.ipynb)"
        rows.append([link, step.line, step.time, *(_standing(run, step.name) for run in recent)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _standing(run: Run, name: str) -> str:
    section = run.steps.get(name, {})
    if section.get("status") == "finished":
        return "✓ done"
    if name == next_step(run):
        return "**▶ next, started**" if section else "**▶ next**"
    return "started" if section else "·"


def _results(recent: Sequence[Run]) -> str:
    rows = ["| run | target | evidence | executed notebooks |", "| :--- | :--- | :--- | :--- |"]
    for run in recent:
        target = run.target
        label = target_label(target["target"])
        word = label if target["target"] == "sandbox" else f"**{label}**"
        report = f"[report.html]({run.run_id}/report.html)" if (run.path / "report.html").is_file() else "none yet"
        executed = sorted((run.path / "notebooks").glob("??_*.ipynb"))
        links = " ".join(f"[{file.name[:2]}]({run.run_id}/notebooks/{file.name})" for file in executed)
        rows.append(
            f"| `{escape(run.run_id)}` | {word} {target['account_id']} {target['region']} | {report} | {links or 'none'} |"
        )
    return "\n".join(rows)


def _good_to_know(docs: str) -> str:
    lines = [
        "- This page is updated whenever a step finishes; reload it in the browser (F5).",
        "- A notebook that you open again starts from the values of its run, and keeps existing resources.",
        "- The notebooks use the run `demo`. To use another, change `run_id` in the parameters cell of each notebook.",
        "- The square button (■) interrupts a cell. This is safe: run the cell again to resume.",
        "- Ctrl-C in the terminal stops JupyterLab, its kernels and the sandbox that it started.",
    ]
    if docs:
        lines.append(f"- Further reading: [the sandbox]({docs}/sandbox.md) · [for trainers]({docs}/trainer.md).")
    return "\n".join(lines)
