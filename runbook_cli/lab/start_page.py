"""The page that JupyterLab opens with: what this is, the steps as a map, what is done and what is next.

A pure function from runs to Markdown, as JupyterLab shows it: links, tables, and inline colours that words repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from runbook_cli.run_state import next_step, target_label
from runbook_lib.run.run import Run
from runbook_lib.run.steps import START, all_steps

_SHOWN = 4  # runs beside each other; older ones are told by `runbook status`

_WHAT = """\
Amazon Aurora can encrypt its storage under a KMS key whose **key material you bring yourself**. Each notebook below is
one step of the way: it explains, asks, shows a plan, applies exactly that plan, and verifies. Open one, and run its
cells one after the other with **Shift+Enter**; after typing into a form, click the next cell first."""

_SANDBOX = """\
**SANDBOX.** Everything here talks to a simulation of AWS on this machine, with real cryptography. It costs nothing,
and nothing can be broken that matters. It ends when this JupyterLab ends."""

_AWS = """\
<p><b style="color:#dc3e46">⚠ REAL AWS.</b> <span style="color:#dc3e46">No sandbox was started. What you apply here is
made in your AWS account, and costs money.</span></p>

In the form of 00 choose the target `aws`, and write the 12 digits of the account that you mean: the run stops unless
that is where you are signed in."""


def start_page(runs: Sequence[Run], *, target: str, notebooks: str, docs: str = "") -> str:
    """Return the page as Markdown.

    `runs` are all runs, oldest first; `notebooks` and `docs` are paths from where the page lies, the latter empty
    where there are none.
    """
    recent = list(reversed(runs))[:_SHOWN]
    parts = ["# Aurora under a key of your own", _WHAT, _AWS if target == "aws" else _SANDBOX]
    parts += ["## The way", *_next(recent, notebooks), _map(recent, notebooks)]
    if recent:
        parts += ["## What the runs left", _results(recent)]
    parts += ["## Who holds which key", "![The same in words stands in 00 and 05](START-keys.png)"]
    parts += ["## Good to know", _good_to_know(docs)]
    return "\n\n".join(parts) + "\n"


def _next(recent: Sequence[Run], notebooks: str) -> list[str]:
    if not recent:
        return [f"**Begin with [00 start]({notebooks}/{START}.ipynb).**"]
    run = recent[0]
    name = next_step(run)
    if not name:
        return [f"Run `{run.run_id}` is finished. A new one begins with [00 start]({notebooks}/{START}.ipynb)."]
    words = all_steps()[name]
    return [
        f"**Go on with run `{run.run_id}`: [{words.number} {words.words}]({notebooks}/{name}.ipynb).**",
        "![The same in words stands in the table](START-run.png)",
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
        return "**▶ next, begun**" if section else "**▶ next**"
    return "begun" if section else "·"


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
        "- This page is written anew whenever a step finishes; reload it in the browser (F5).",
        "- A notebook that you open again starts from what its run knows, and keeps what is already there.",
        "- The notebooks work on the run `demo`. For another, change `run_id` in the parameters cell of each.",
        "- The square (■) interrupts a cell. That does no harm: run it again to go on.",
        "- Ctrl-C in the terminal ends JupyterLab, its kernels and the sandbox that it started.",
    ]
    if docs:
        lines.append(f"- More to read: [the sandbox]({docs}/sandbox.md) · [for trainers]({docs}/trainer.md).")
    return "\n".join(lines)
