"""Write the results of the benchmarks, compared with the targets, between the markers in docs/performance.md."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- measured -->", "<!-- end -->"
PACKAGES = ("papermill", "nbclient", "jupyter_client", "ipykernel", "moto")


Row = tuple[str, str, str, str, str]


def rows(t: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Row]:
    """Yield figure, baseline, our result, target, and whether it was reached."""
    if "runbook" in t:
        yield from _rows_of_the_chain(t, facts)
    if "eight" in t:
        yield (
            "eight files, four at a time",
            str(t["eight, xargs"]),
            str(t["eight"]),
            "6 times",
            _times(t["eight, xargs"].seconds, t["eight"].seconds, 6),
        )
    if "MB, forked" in facts:
        for place, what in enumerate(("private memory", "PSS")):
            plain, forked = facts["MB, plain"][place], facts["MB, forked"][place]
            words = f"one of eight live kernels: {what}"
            yield words, f"{plain:.0f} MB", f"{forked:.0f} MB", "50 MB", _at_most(forked, 50, "{:.0f} MB")
    if "waiting" in facts:
        waiting = facts["waiting"]
        calls = waiting["describe calls per poll"]
        held = f"{waiting['kernels']} kernels, {calls:.1f} describe calls per poll, {waiting['MB']:.0f} MB"
        good = waiting["kernels"] == 0 and calls <= 1.1
        yield "100 runs waiting at once", "", held, "no kernel, one call", "reached" if good else "**missed**"
    if "nbval" in t:
        a, b = t["nbval"], t["nbval, forked"]
        yield "pytest --nbval notebooks", str(a), str(b), "1.7 times", _times(a.seconds, b.seconds, 1.7)
    if "status" in t:
        for name, aim in (("status", 0.5), ("help", 0.3)):
            words = "runbook status, 200 runs" if name == "status" else "runbook --help"
            yield words, "", f"{t[name].seconds:.2f} s", f"{aim} s", _at_most(t[name].seconds, aim, "{:.2f} s")


def _rows_of_the_chain(t: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[Row]:
    loop, ours, plain, script = t["loop"], t["runbook"], t["runbook, plain"], t["script"]
    yield "chain 00 to 06, wall", str(loop), str(ours), "6 times as fast (8)", _times(loop.seconds, ours.seconds, 6)
    yield (
        "chain 00 to 06, CPU",
        f"{loop.work:.2f} s",
        f"{ours.work:.2f} s",
        "5 times less",
        _times(loop.work, ours.work, 5),
    )
    yield "the same, plain kernels", str(loop), str(plain), "2 times", _times(loop.seconds, plain.seconds, 2)
    lab = t["loop without lab"]
    yield "compared with papermill without JupyterLab", str(lab), str(ours), "", _times(lab.seconds, ours.seconds)
    forked = t["loop, forked"]
    yield "stock papermill, forked kernels", str(loop), str(forked), "", _times(loop.seconds, forked.seconds)
    cold = t["runbook, cold"]
    yield "the first chain (no preloaded parent yet)", str(loop), str(cold), "", _times(loop.seconds, cold.seconds)
    ratio = ours.seconds / script.seconds
    yield (
        "compared with the same cells in one script",
        str(script),
        str(ours),
        "3 times the script",
        _at_most(ratio, 3, "{:.1f} times"),
    )
    alone, one = t["one, papermill"], t["one"]
    yield "one notebook alone (06)", str(alone), str(one), "1.5 times", _times(alone.seconds, one.seconds, 1.5)
    further = statistics.median(facts["further"])
    yield (
        "each further notebook, without its cells",
        "",
        f"{further:.2f} s",
        "0.3 s",
        _at_most(further, 0.3, "{:.2f} s"),
    )


def _times(before: float, after: float, aim: float = 0) -> str:
    ratio = before / after
    return f"{ratio:.1f} times" + (", **missed**" if aim and ratio < aim else ", reached" if aim else "")


def _at_most(value: float, aim: float, words: str) -> str:
    return words.format(value) + (", reached" if value <= aim else ", **missed**")


def write(t: Mapping[str, Any], facts: Mapping[str, Any], *, command: str, load: tuple[float, ...]) -> None:
    """Replace the text between the markers of the page by the table of figures."""
    processor = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    after = os.getloadavg()
    lines = [
        f"`{command}` on {datetime.now(UTC):%Y-%m-%d}; {os.cpu_count()} cores "
        f"({processor[1].strip() if processor else platform.machine()}), Linux, Python {platform.python_version()}, {versions}. "
        f"Load average at the start {load[0]:.1f}, at the end {after[0]:.1f}"
        + (": **the machine was busy; measure again**." if load[0] > 0.7 else "."),
        "",
        "| measurement | baseline | runbook | target | result |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in rows(t, facts)),
    ]
    text = PAGE.read_text(encoding="utf-8")
    head, tail = text.partition(BEGIN)[0], text.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{tail}", encoding="utf-8")
    print("\n".join(lines))
