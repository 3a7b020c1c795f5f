"""What people would rather look at than read: who holds which key, where key and run stand, how long the steps took.

Each picture is a PNG, which survives in a notebook that is opened untrusted and on GitHub, and says the same in
words. Nothing is asked of AWS: what a picture shows of a run is what the run's folder says.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, Protocol

from runbook_lib.pages.drawing import AMBER, BLUE, GREEN, INK, LINE, PURPLE, RED, SOFT, Canvas, Picture
from runbook_lib.run.run import Run
from runbook_lib.run.steps import all_steps, chain


class Opened(Protocol):
    """What has a run: a step that was opened."""

    @property
    def run(self) -> Run: ...


_STATES = {
    "No key yet": "step 01 makes it",
    "PendingImport": "it has no material",
    "Enabled": "it can encrypt",
    "PendingDeletion": "its waiting period runs",
}


@cache
def who_holds_which_key() -> Picture:
    """Draw envelope encryption: key material, KMS key, data key and encrypted data key, and who holds each."""
    canvas = Canvas(900, 366)
    for x, width, colour, words in (
        (20, 230, SOFT, "You hold"),
        (330, 230, PURPLE, "AWS KMS holds"),
        (640, 240, BLUE, "Aurora holds"),
    ):
        canvas.box(x, 44, width, 264, fill="#ffffff", edge=colour, thick=1.5, radius=10)
        canvas.text(x + 2, 34, words, size=15, colour=colour, bold=True)

    def card(x: float, y: float, width: float, title: str, *lines: str, edge: str = "#d0d7de") -> None:
        canvas.box(x, y, width, 34 + 17 * len(lines), edge=edge)
        canvas.text(x + 12, y + 23, title, size=14, bold=True)
        for number, line in enumerate(lines):
            canvas.text(x + 12, y + 42 + 17 * number, line, size=12, colour=SOFT)

    card(34, 62, 202, "Key material", "256 bits, made by you,", "in memory only", edge=SOFT)
    card(34, 216, 202, "Recovery copies", "the same 256 bits, encrypted", "to keys that you keep")
    card(344, 62, 202, "KMS key", "id, ARN, policy; its material", "is yours, and never comes out", edge=PURPLE)
    card(344, 216, 202, "Key policy, and a grant", "say who may administer the key;", "let RDS use it for this cluster")
    card(654, 62, 202, "Data key", "in the clear: in memory only", edge=BLUE)
    card(654, 146, 202, "Encrypted data key", "kept beside the storage")
    card(654, 216, 202, "Your data", "storage, snapshots, backups,", "encrypted with the data key")

    canvas.arrow((236, 96), (344, 96))
    canvas.text(290, 86, "imported", size=12, colour=SOFT, anchor="ms")
    canvas.text(290, 114, "wrapped, by", size=12, colour=SOFT, anchor="ms")
    canvas.text(290, 130, "RSA-OAEP", size=12, colour=SOFT, anchor="ms")
    canvas.arrow((135, 130), (135, 216))
    canvas.text(147, 178, "before the import", size=12, colour=SOFT)
    canvas.arrow((546, 84), (654, 84))
    canvas.text(600, 74, "makes", size=12, colour=SOFT, anchor="ms")
    canvas.arrow((654, 172), (590, 172), (590, 108), (546, 108))
    canvas.text(598, 144, "opens", size=12, colour=SOFT)
    canvas.arrow((856, 88), (870, 88), (870, 250), (856, 250), colour=BLUE)
    canvas.text(450, 340, "Without the key material nothing above can be read again: that is the point, and the danger.",
                size=13, colour=INK, anchor="ms")  # fmt: skip
    return canvas.picture(
        "Who holds which key. You hold the key material, 256 bits, and recovery copies of it, encrypted to keys that you "
        "keep. AWS KMS holds the KMS key: your material, imported in wrapped form, never comes out of it. Aurora holds a "
        "data key, in the clear in memory only, and beside its storage the same data key encrypted under the KMS key; KMS "
        "makes it and opens it. Storage, snapshots and backups are encrypted with the data key."
    )


def where_it_stands(step: Opened) -> Picture:
    """Draw the state of the key and the steps of the run, done and next, as the run's folder knows them."""
    return standing(step.run)


def standing(run: Run) -> Picture:
    """Draw the state of the key and the steps of `run`."""
    steps = list(all_steps().values())
    done = [step.name for step in steps if run.is_finished(step.name)]
    ended = "90_clean_up" in done
    to_do = None if ended else next((step for step in chain() if step.name not in done), None)
    canvas = Canvas(900, 196)

    def card(x: float, y: float, width: float, title: str, words: str, *, colour: str, strong: bool) -> None:
        lit = colour != LINE
        canvas.box(x, y, width, 48, fill="#ffffff", edge=colour, thick=2.4 if strong else 1.2)
        canvas.text(x + 10, y + 20, title, bold=lit, colour=INK if lit else SOFT)
        canvas.text(x + 10, y + 38, words, size=11.5, colour=colour if lit else SOFT)

    canvas.text(20, 30, "The key", size=14, bold=True)
    for number, (name, words) in enumerate(_STATES.items()):
        x, now = 20.0 + 222 * number, name == key_state(run)
        colour = {"Enabled": GREEN, "PendingDeletion": RED}.get(name, AMBER) if now else LINE
        card(x, 40, 190, name, ("now: " if now else "") + words, colour=colour, strong=now)
        if number + 1 < len(_STATES):
            canvas.arrow((x + 190, 64), (x + 222, 64), colour=LINE)
    canvas.text(20, 118, "The run", size=14, bold=True)
    width = 860 / len(steps)
    for number, step in enumerate(steps):
        x = 20 + width * number
        finished, following = step.name in done, step is to_do
        colour = GREEN if finished else BLUE if following else LINE
        words = "done" if finished else "next" if following else _short(step.words)
        card(x, 128, width - 8, step.number, words, colour=colour, strong=following)
        if finished:
            canvas.tick(x + width - 26, 148)
    told = ", ".join(name[:2] for name in done) or "nothing"
    following_words = f"next is {to_do.name}" if to_do else "nothing is left to do"
    return canvas.picture(f"The key: {key_state(run)}. The run: {told} done; {following_words}.")


def key_state(run: Run) -> str:
    """Return the state of the run's key as its steps have left it."""
    for name, state in (
        ("90_clean_up", "PendingDeletion"),
        ("04_import_key_material", "Enabled"),
        ("01_create_key", "PendingImport"),
    ):
        if run.is_finished(name):
            return state
    return "No key yet"


def _short(words: str) -> str:
    return words if len(words) <= 14 else words[:13].rsplit(" ", 1)[0] + " …"


def timeline(steps: Mapping[str, Mapping[str, Any]], *, until: datetime) -> Picture:
    """Draw when each step of a run began and ended; one that has not ended reaches to `until`."""
    spans = [
        (
            name,
            datetime.fromisoformat(section["started"]),
            datetime.fromisoformat(section.get("finished") or until.isoformat()),
        )
        for name, section in sorted(steps.items())
    ]
    first, last = min(start for _, start, _ in spans), max(end for _, _, end in spans)
    total = max((last - first).total_seconds(), 1)
    canvas = Canvas(900, 62 + 26 * len(spans))
    left, width = 210, 580
    canvas.text(20, 28, f"From {first:%Y-%m-%d %H:%M:%S} UTC", size=12, colour=SOFT)
    canvas.text(left + width, 28, f"to {last:%Y-%m-%d %H:%M:%S} UTC", size=12, colour=SOFT, anchor="rs")
    told = []
    for number, (name, start, end) in enumerate(spans):
        y = 44 + 26 * number
        canvas.text(20, y + 14, name.replace("_", " "), size=12.5)
        canvas.line((left, y + 10), (left + width, y + 10), colour="#d8dee4", thick=1)
        x = left + width * (start - first).total_seconds() / total
        canvas.box(x, y + 2, max(5, width * (end - start).total_seconds() / total), 16, fill=BLUE, edge=BLUE, radius=3)
        told.append(f"{name} {_lasted(start, end)}")
        canvas.text(left + width + 14, y + 14, _lasted(start, end), size=12.5, colour=SOFT)
    return canvas.picture(f"Timeline of the run: {', '.join(told)}.")


def _lasted(start: datetime, end: datetime) -> str:
    seconds = max(0, round((end - start).total_seconds()))
    if seconds < 60:
        return f"{seconds} s" if seconds else "under 1 s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"
