"""Take the screenshots in docs/: the start page, two steps and the report, from a run in a browser.

`python tools/screenshots.py` (or `make screenshots`) starts `runbook lab` with a new sandbox, runs 00 to 06 and
overwrites the pictures, including the drawing of who holds which key. Requires Chromium.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from browser import Server, Tab, chromium  # noqa: E402
from playwright.sync_api import Browser  # noqa: E402
from test_room_browser import Room, enter, row  # noqa: E402

from runbook_cli.lab.room_report import send  # noqa: E402
from runbook_lib.aws.sandbox_process import identify  # noqa: E402
from runbook_lib.aws.seat_file import Seat, remember  # noqa: E402
from runbook_lib.pages.pictures import who_holds_which_key  # noqa: E402
from runbook_lib.run.steps import CREATE_KEY, ENCRYPT_KEY_MATERIAL, VERIFY_ENCRYPTION, all_steps, chain  # noqa: E402

DOCS = ROOT / "docs"
# A report names who wrote it; a picture of it that is committed does not.
MADE_UP = """who => {
  for (const cell of document.querySelectorAll("td"))
    if (cell.textContent === who.user) cell.textContent = "operator";
    else if (cell.textContent === who.host) cell.textContent = "workstation";
}"""
_LEARNERS = ("Ada", "Grace", "Barbara", "Linus", "Edsger", "", "Katherine", "Margaret", "Alan", "Tim")
WINDOW = {"width": 1280, "height": 960}


def keep(name: str, png: bytes) -> None:
    """Write a screenshot as a PNG with a palette of 255 colours."""
    file = DOCS / f"{name}.png"
    Image.open(io.BytesIO(png)).convert("RGB").quantize(255).save(file, "PNG", optimize=True)
    print(f"{file.relative_to(ROOT)}: {file.stat().st_size // 1024} kB")


def walk(tab: Tab) -> None:
    """Run 00 to 06, edit some form fields, and take the screenshots."""
    for step in chain():
        tab.follow(f"{step.number} {step.words}")
        tab.wait_for_notebook(step.name)
        if step.name == CREATE_KEY:
            tab.go_on_to("form = ")
            tab.see("to choose from")
            tab.field("Alias").fill("alias/orders")
            tab.field("Administrators may delete the key").uncheck()
            tab.scroll_to(tab.cell("form = "))
            keep("step-01-form", tab.page.screenshot())
            tab.go_on_to("plan = ")
        if step.name == VERIFY_ENCRYPTION:
            tab.scroll_to(tab.go_on_to("verify_encryption.verify"))
            keep("step-06-evidence", tab.page.screenshot())
        tab.go_on_to("pictures.where_it_stands")
        if step.name == ENCRYPT_KEY_MATERIAL:
            tab.open_start()
            keep("start-page", tab.page.screenshot())
            tab.command("application:toggle-left-area")


def room(browser: Browser, folder: Path) -> None:
    """Take the screenshot of the trainer's page, with twelve seats whose progress is made up."""
    served, names = Room(folder, 12), list(all_steps())
    try:
        for seat, done in enumerate((4, 3, 7, 5, 4, 0, 6, 9, 2, 3), 1):
            place = Seat(served.url, seat, served.tokens[str(seat)], _LEARNERS[seat - 1])
            remember(place)
            answers = {name: {"answer": "a", "right": (n * seat) % 4 != 1} for n, name in enumerate(names[:done])}
            tasks = {
                name: {"hints": (n * seat) % 3, "done": n < done - 1}
                for n, name in enumerate(names[: max(0, done - 1)])
            }
            known = {
                "sandbox_id": identify(served.url).sandbox_id,
                "run": "demo",
                "at": names[done],
                "answers": answers,
            }
            send(place, {**known, "tasks": tasks, "steps": dict.fromkeys(names[:done], "finished")})
        page = enter(browser, served, served.tokens["0"])
        row(page, 3).click()
        page.locator("#details").wait_for()
        page.set_viewport_size({"width": 1280, "height": 1060})
        keep("room", page.screenshot())
    finally:
        served.process.terminate()


def main() -> int:
    """Take all screenshots."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        server = Server(Path(folder))
        try:
            tab = Tab(browser.new_page(viewport=WINDOW), server)
            tab.open_start()
            tab.command("application:toggle-left-area")
            walk(tab)
            page = browser.new_page(viewport={"width": 1160, "height": 1500})
            page.goto((server.runs / "demo" / "report.html").as_uri())
            page.evaluate(MADE_UP, json.loads((server.runs / "demo" / "report.json").read_text())["who"])
            keep("report", page.screenshot())
        finally:
            server.stop()
        room(browser, Path(folder) / "room")
    (DOCS / "who-holds-which-key.png").write_bytes(who_holds_which_key().png)
    return 0


if __name__ == "__main__":
    sys.exit(main())
