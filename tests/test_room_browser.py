"""A room of three seats in a real browser: what the trainer sees and does, and what a learner sees of it.

One room for the module; the tests build on each other, in order. Seat 1 has a JupyterLab, seats 2 and 3 report only.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="the browser suite is part of the extra dev")
from browser import ROOT, Server, Tab, chromium, is_installed

from runbook_cli.lab import room_report
from runbook_lib.aws import seat_file
from runbook_lib.run import learning
from runbook_lib.run.run import Run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.in_order,
    pytest.mark.skipif(not is_installed(), reason="no chromium on this machine"),
    pytest.mark.xdist_group("browser"),
]
NAMES = {1: "Ada Lovelace", 2: "<img src=x onerror=document.title='broken'>", 3: "Grace"}


class Room:
    """`runbook room` as a process, with the folders of its seats."""

    def __init__(self, folder: Path, seats: int = 3) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "runbook_cli.main", "room", "--seats", str(seats), "--port", "0",
             "--runs-dir", str(folder / "trainer")],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        lines = iter(self.process.stdout)
        self.url = next(match[1] for line in lines if (match := re.match(r"Trainer +(http\S+)/room", line)))
        next(line for line in lines if line.startswith("Ctrl-C"))
        self.tokens = json.loads((folder / "trainer" / "_room" / "room.json").read_text())["tokens"]

    def runs(self, seat: int) -> Path:
        """Return the runs folder of a seat."""
        return self.folder / f"seat-{seat}" / "runs"

    def command(self, seat: int, *words: str) -> None:
        """Run the command in the runs folder of a seat."""
        command = [sys.executable, "-m", "runbook_cli.main", *words, "--runs-dir", str(self.runs(seat))]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=180)
        assert 0 == done.returncode, done.stderr

    def take(self, seat: int) -> None:
        """Take a seat, as its learner does."""
        file = self.folder / f"token-{seat}"
        file.touch(mode=0o600)
        file.write_text(self.tokens[str(seat)])
        self.command(seat, "seat", str(seat), "--room", self.url, "--token-from", f"file:{file}", "--name", NAMES[seat])

    def report(self, seat: int) -> dict[str, Any]:
        """Report a seat's run `demo` once, as its lab does every two seconds."""
        place = seat_file.read(self.runs(seat))
        assert place is not None
        run = Run.open("demo", runs_dir=self.runs(seat)) if (self.runs(seat) / "demo").is_dir() else None
        return room_report.send(place, room_report.progress(run, [run] if run else []))


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """A room whose three seats are taken; seat 2 is before 04 with a wrong answer, seat 3 has verified."""
    room = Room(tmp_path_factory.mktemp("room"))
    for seat in (1, 2, 3):
        room.take(seat)
    room.command(2, "run", "--run-id", "demo", "--before", "04")
    room.command(3, "run", "--run-id", "demo")
    two = Run.open("demo", runs_dir=room.runs(2))
    learning.lock_in(two, "01_create_key", "b", right=False, at="2026-11-27T09:12:00+00:00")
    learning.lock_in(two, "02_get_parameters_for_import", "a", right=True, at="2026-11-27T09:12:00+00:00")
    learning.note_task(two, "01_create_key", hints=2, looks=1)
    yield room
    room.process.terminate()
    room.process.wait(20)


@pytest.fixture(scope="module")
def lab(room: Room) -> Iterator[Server]:
    """The JupyterLab of seat 1."""
    server = Server(room.folder / "seat-1")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One chromium for the module."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def trainer(browser: Any, room: Room) -> Any:
    """The trainer's page."""
    return enter(browser, room, room.tokens["0"])


def enter(browser: Any, room: Room, token: str) -> Any:
    """Open the room in a browser of its own and enter the token, as a person does."""
    page = browser.new_context(viewport={"width": 1360, "height": 900}).new_page()
    page.set_default_timeout(20_000)
    page.complaints, page.from_elsewhere = [], []
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on(
        "request", lambda request: None if request.url.startswith(room.url) else page.from_elsewhere.append(request.url)
    )
    page.goto(f"{room.url}/room")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Enter").click()
    page.locator("header").wait_for()
    return page


def row(page: Any, seat: int) -> Any:
    """Return a seat's row."""
    return page.locator(f'#seats tr[data-seat="{seat}"]')


def sees(page: Any, words: str, *, within: str = "body", seconds: float = 30) -> None:
    """Wait until words stand on the page, which updates itself."""
    page.locator(within).get_by_text(words).first.wait_for(timeout=seconds * 1000)


def test_the_page_shows_each_seat_and_where_it_is(trainer: Any, room: Room) -> None:
    """Three seats and all steps; it updates itself, loads nothing from elsewhere, and complains of nothing."""
    for seat in (2, 3):
        room.report(seat)
    sees(trainer, "04 import key material", within='tr[data-seat="2"]')
    assert 3 == trainer.locator("#seats tbody tr").count()
    assert 4 == row(trainer, 2).locator(".mark.done").count()
    assert "1/2" in row(trainer, 2).inner_text()
    assert 1 == row(trainer, 2).locator("sup.wrong").count()
    assert "2" == row(trainer, 2).locator("td").last.inner_text()
    sees(trainer, "all done", within='tr[data-seat="3"]')
    assert "empty" in row(trainer, 1).inner_text()
    assert ([], []) == (trainer.complaints, trainer.from_elsewhere)


def test_a_name_is_text_and_no_element(trainer: Any) -> None:
    """`<img … onerror=…>` is shown as it was typed, in the table and in the panel; nothing of it runs."""
    row(trainer, 2).click()
    sees(trainer, NAMES[2], within="#chosen")
    assert NAMES[2] in row(trainer, 2).inner_text()
    assert 0 == trainer.locator("img").count()
    assert "Trainer" in trainer.title()


def test_the_panel_lists_the_answers_of_a_seat(trainer: Any) -> None:
    """What was said and whether it was right, tasks and hints."""
    text = trainer.locator("#answers").inner_text()
    assert "b wrong" in text
    assert "a right" in text
    assert "task open · 2 hints" in text


def test_clock_pace_and_faults_are_one_button_each(trainer: Any, room: Room) -> None:
    """The clock asks first; Cancel changes nothing."""
    trainer.get_by_role("button", name="+ 25 hours").click()
    trainer.get_by_role("button", name="Cancel").click()
    before = trainer.locator("#clock").inner_text()
    trainer.get_by_role("button", name="+ 25 hours").click()
    trainer.get_by_role("button", name="Advance").click()
    sees(trainer, "the clock is now", within="#said")
    assert before[:10] != trainer.locator("#said").inner_text().removeprefix("the clock is now ")[:10]
    trainer.get_by_role("button", name="Back to the real time").click()
    trainer.get_by_role("button", name="Set back").click()
    trainer.get_by_role("button", name="20 s").click()
    sees(trainer, "clusters become available after 20 s", within="#said")
    trainer.get_by_role("button", name="no time").click()
    trainer.get_by_label("Calls").fill("2")
    trainer.locator("#where").select_option("3")
    trainer.get_by_role("button", name="Inject").click()
    sees(trainer, "throttle: kms:DescribeKey, 2 calls, seat 3", within="#faults")
    trainer.get_by_role("button", name="Remove all faults").click()
    sees(trainer, "No fault is waiting.", within="#faults")


def test_a_seat_that_begins_is_seen_and_is_moved_forward_by_its_lab(trainer: Any, room: Room, lab: Server) -> None:
    """Seat 1 opens JupyterLab; moved to 04, its lab executes 00 to 03 in its own runs folder."""
    trainer.wait_for_function("() => !document.querySelector('tr[data-seat=\"1\"] .away')")
    row(trainer, 1).click()
    trainer.get_by_label("Move forward to").select_option("04_import_key_material")
    trainer.get_by_role("button", name="Move", exact=True).click()
    trainer.locator("#confirm").get_by_role("button", name="Move").click()
    sees(trainer, "moved to 04_import_key_material", within="#seat-state", seconds=60)
    sees(trainer, "04 import key material", within='tr[data-seat="1"]')
    run = Run.open("demo", runs_dir=lab.runs)
    assert [True, False] == [run.is_finished(name) for name in ("03_encrypt_key_material", "04_import_key_material")]
    assert "200000000001" == run.target["account_id"]


def test_the_learner_s_page_shows_the_own_seat(browser: Any, room: Room, lab: Server) -> None:
    """The next step, and how to come back; not the others, and no trainer's button."""
    page = enter(browser, room, room.tokens["1"])
    sees(page, "Next: 04 import key material", within="#next")
    text = page.locator("body").inner_text()
    assert f"runbook seat 1 --room {room.url}" in text
    assert "Grace" not in text
    assert 0 == page.locator("#reset, #seats").count()
    page.context.close()


def test_a_learner_leaves_in_the_middle_and_comes_back(browser: Any, lab: Server, room: Room, trainer: Any) -> None:
    """The tab is closed, the lab stopped and started again: the same run, the same account, the next step."""
    tab = Tab(browser.new_page(), lab)
    tab.open_start()
    tab.follow("04 import key material")
    tab.wait_for_notebook("04_import_key_material")
    tab.go_on_to("plan = import_key_material.plan")
    tab.page.close()
    lab.stop()
    trainer.wait_for_function("() => document.querySelector('tr[data-seat=\"1\"] .away')", timeout=60_000)
    again = Server(room.folder / "again", "--runs-dir", str(lab.runs))
    try:
        tab = Tab(browser.new_page(), again)
        tab.open_start()
        tab.follow("04 import key material")
        tab.wait_for_notebook("04_import_key_material")
        tab.go_on_to("import_key_material.verify(step)")
        sees(trainer, "05 create cluster", within='tr[data-seat="1"]')
        _reset_while_a_notebook_is_open(trainer, tab)
    finally:
        again.stop()


def _reset_while_a_notebook_is_open(trainer: Any, tab: Tab) -> None:
    """The trainer confirms; the open notebook says what happened in a sentence; other seats keep what they have."""
    row(trainer, 1).click()
    trainer.get_by_role("button", name="Reset seat…").click()
    trainer.get_by_role("button", name="Reset seat 1").click()
    sees(trainer, "seat 1, account 200000000001, is empty", within="#said")
    said = tab.output(tab.run("plan = import_key_material.plan"))
    assert "SandboxEnded: " in said
    assert "the trainer has reset this seat: its account is empty, and this run has ended; run 00 again" in said
    assert 1 == len(said.strip().splitlines())
    deadline = time.monotonic() + 20
    while "04 import" in row(trainer, 1).inner_text() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert 0 == row(trainer, 1).locator(".mark.done").count()
    assert 7 == row(trainer, 3).locator(".mark.done").count()
