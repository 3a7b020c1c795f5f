"""JupyterLab in a real browser, as a person has it: tabs, cells by their place or tag, widgets by their label.

Every wait is on a condition that the page or the kernel tells; there is no fixed sleep. For the browser suite and
for the screenshots.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parent.parent
CHROMIUM = os.environ.get("RUNBOOK_CHROMIUM", "/usr/bin/chromium")
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
PATIENCE = 20_000  # milliseconds that a condition may take on a busy machine


class Server:
    """`runbook lab` as a process of its own, with nothing of this machine's Jupyter around it."""

    def __init__(self, folder: Path, *words: str, **environment: str) -> None:
        self.runs = folder / "runs"
        own = {f"JUPYTER_{name}_DIR": str(folder / f"jupyter-{name.lower()}") for name in ("CONFIG", "DATA")}
        own |= {f"JUPYTERLAB_{name}_DIR": str(folder / f"lab-{name.lower()}") for name in ("SETTINGS", "WORKSPACES")}
        environment = {
            **os.environ,
            **own,
            "IPYTHONDIR": str(folder / "ipython"),
            "RUNBOOK_ATTENDED": "",
            **environment,
        }
        (folder / "jupyter-config").mkdir(parents=True)
        exposed = json.dumps({"LabApp": {"expose_app_in_browser": True}})
        (folder / "jupyter-config" / "jupyter_lab_config.json").write_text(exposed)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "runbook_cli.main", "lab", "--no-browser", "--runs-dir", str(self.runs), *words],
            env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.said: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))
            if line.startswith("Ctrl-C"):
                break
        self.url = next(match[1] for line in self.said if (match := re.match(r"JupyterLab +(http\S+)", line)))
        self.origin = "{0.scheme}://{0.netloc}".format(urlsplit(self.url))
        self.token = self.url.partition("?token=")[2]

    def stop(self) -> int:
        """Press Ctrl-C; return the exit code, with the last words in `said`."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        rest, _ = self.process.communicate(timeout=60)
        self.said += rest.splitlines()
        return self.process.returncode


class Tab:
    """A page of JupyterLab, and what it asked of the network and said in the console."""

    def __init__(self, page: Page, server: Server) -> None:
        self.page = page
        self.server = server
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        self._stands_at: dict[str, int] = {}
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: self._heard(message))
        page.on("pageerror", self._failed)
        page.on("request", lambda request: self._asked(request.url))

    def _heard(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def _failed(self, error: Any) -> None:
        # ipywidgets 8.1 trips over any notebook that has no kernel, whatever stands in it.
        told = f"{error}\n{error.stack}"
        if not ("reading 'kernel'" in told and "@jupyter-widgets/jupyterlab-manager" in told):
            self.complaints.append(told)

    def _asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != urlsplit(self.server.origin).netloc:
            self.strangers.append(url)

    # Opening -----------------------------------------------------------------------------------------

    def open_start(self) -> None:
        """Open the address that the command printed."""
        self.page.goto(f"{self.server.url}&reset")
        self._stands_at.clear()
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")
        self.page.wait_for_selector(".jp-RenderedMarkdown h1 >> visible=true")
        self.page.wait_for_function(
            "() => [...document.querySelectorAll('.jp-RenderedMarkdown img')].every(image => image.complete)"
        )

    def end_kernels(self) -> None:
        """Leave JupyterLab and end every kernel, as the night does."""
        self.page.goto("about:blank")
        sessions = json.loads(self._ask("/api/sessions"))
        with ThreadPoolExecutor() as several:
            list(several.map(lambda session: self._ask(f"/api/sessions/{session['id']}", "DELETE"), sessions))

    def _ask(self, path: str, method: str = "GET") -> bytes:
        headers = {"Authorization": f"token {self.server.token}"}
        request = Request(self.server.origin + path, method=method, headers=headers)  # noqa: S310 - http, on this machine
        with urlopen(request, timeout=60) as answer:  # noqa: S310
            return bytes(answer.read())

    def follow(self, name: str) -> None:
        """Click the visible link whose text begins with `name`, and wait for its notebook."""
        self.page.locator(f"a:visible:text-matches('^{re.escape(name)}')").first.click()

    def wait_for_notebook(self, name: str) -> None:
        """Wait until notebook `name` is the current tab and its kernel is idle."""
        self.page.wait_for_function(
            """name => { const w = window.jupyterapp?.shell.currentWidget;
                return w?.context?.path.endsWith(name + '.ipynb') && w.context.isReady
                    && w.sessionContext?.session?.kernel?.status === 'idle'; }""",
            arg=name,
        )

    def wait_for_page(self, name: str) -> None:
        """Wait until notebook `name` is the current tab, with or without a kernel."""
        self.page.wait_for_function(
            """name => { const w = window.jupyterapp?.shell.currentWidget;
                return w?.context?.path.endsWith(name + '.ipynb') && w.context.isReady; }""",
            arg=name,
        )

    def command(self, name: str, arguments: dict[str, Any] | None = None) -> None:
        """Run one of JupyterLab's commands."""
        self.page.evaluate(
            "([name, args]) => { window.jupyterapp.commands.execute(name, args); }", [name, arguments or {}]
        )

    def change_theme(self, name: str) -> None:
        """Change JupyterLab's theme and wait until its curtain has gone: two at once trip over each other."""
        self.command("apputils:change-theme", {"theme": name})
        light = "true" if "Light" in name else "false"
        self.page.wait_for_function("light => document.body.dataset.jpThemeLight === light", arg=light)
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")

    # Cells -------------------------------------------------------------------------------------------

    def cell(self, text: str) -> int:
        """Return the index of the code cell whose source holds `text`."""
        found = self.page.evaluate(
            """text => window.jupyterapp.shell.currentWidget.content.widgets
                .map((cell, i) => [cell.model.type, cell.model.sharedModel.source, i])
                .filter(([type, source]) => type === 'code' && source.includes(text)).map(row => row[2])""",
            text,
        )
        assert 1 == len(found), (text, found)
        return int(found[0])

    def press_in(self, index: int, *keys: str) -> None:
        """Put the focus into a cell, as a click does, and press keys."""
        self.page.evaluate(
            """index => { const nb = window.jupyterapp.shell.currentWidget.content;
                nb.activeCellIndex = index; nb.mode = 'command'; nb.activate(); }""",
            index,
        )
        for key in keys:
            self.page.keyboard.press(key)

    def run(self, text: str, *, wait: bool = True) -> int:
        """Run the cell that holds `text` with Shift+Enter; wait until it has ended; return its index."""
        index = self.cell(text)
        self._run(index, wait=wait)
        return index

    def _run(self, index: int, *, wait: bool = True) -> None:
        # A stored page has counts already: forget this one, so that the new one is known when it comes.
        self.page.evaluate(
            "i => { window.jupyterapp.shell.currentWidget.content.widgets[i].model.sharedModel.execution_count = null; }",
            index,
        )
        self.press_in(index, "Shift+Enter")
        if wait:
            self.wait_for_end(index)

    def go_on_to(self, text: str) -> int:
        """Run every code cell from where one stands to the one that holds `text`; return its index."""
        path = self.path()
        last = self.cell(text)
        for index in range(self._stands_at.get(path, 0), last + 1):
            if self.is_code(index):
                self._run(index)
        self._stands_at[path] = last + 1
        return last

    def path(self) -> str:
        """Return the path of the current notebook."""
        return str(self.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.path"))

    def is_code(self, index: int) -> bool:
        """Say whether a cell is code."""
        return bool(
            self.page.evaluate(
                "i => window.jupyterapp.shell.currentWidget.content.widgets[i].model.type === 'code'", index
            )
        )

    def wait_for_end(self, index: int) -> None:
        """Wait until a cell has its count and the kernel is idle."""
        self.page.wait_for_function(
            """index => { const w = window.jupyterapp.shell.currentWidget;
                const cell = w.content.widgets[index];
                return cell.model.executionCount && cell.model.executionState !== 'running'
                    && w.sessionContext.session.kernel.status === 'idle'; }""",
            arg=index,
        )

    def restart_kernel(self) -> None:
        """Restart the kernel by the menu, as a person does, and wait until it is idle."""
        self.command("kernelmenu:restart")
        self.page.locator(".jp-Dialog button.jp-mod-accept").click()
        self.page.locator(".jp-Dialog").wait_for(state="detached")
        self.page.wait_for_selector(
            ".jp-NotebookPanel:not(.lm-mod-hidden) .jupyter-widgets-disconnected", state="attached"
        )
        self.page.wait_for_function(
            "() => window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'"
        )
        self._stands_at.pop(self.path(), None)

    def close(self) -> None:
        """Close the tab of the browser without saving, as by mistake; kernels live on."""
        self.page.goto("about:blank")

    def run_all(self) -> None:
        """Run all cells and wait until the last has ended or one has failed."""
        self.command("notebook:run-all-cells")
        self.page.wait_for_function(
            """() => { const w = window.jupyterapp.shell.currentWidget;
                const code = w.content.widgets.filter(c => c.model.type === 'code');
                const errors = code.some(c => c.model.outputs.toJSON().some(o => o.output_type === 'error'));
                return w.sessionContext.session.kernel.status === 'idle'
                    && (errors || code.every(c => c.model.executionCount)) ; }"""
        )

    def scroll_to(self, index: int) -> None:
        """Bring a cell to the top of the window."""
        self.page.evaluate(
            """i => { document.activeElement?.blur();
                window.jupyterapp.shell.currentWidget.content.widgets[i].node.scrollIntoView({block: 'start'}); }""",
            index,
        )

    def output(self, index: int) -> str:
        """Return what a cell shows, as text on the page."""
        return str(
            self.page.evaluate(
                "i => window.jupyterapp.shell.currentWidget.content.widgets[i].outputArea.node.innerText", index
            )
        )

    def outputs(self, index: int) -> list[dict[str, Any]]:
        """Return a cell's outputs as they would be saved."""
        found: list[dict[str, Any]] = self.page.evaluate(
            "i => window.jupyterapp.shell.currentWidget.content.widgets[i].model.outputs.toJSON()", index
        )
        return found

    # Widgets -----------------------------------------------------------------------------------------

    def field(self, label: str) -> Any:
        """Return the input of that label in the current notebook: so the label is proved to be its label."""
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)").get_by_label(label, exact=True)

    def fill(self, label: str, text: str) -> None:
        """Type over what stands in a field, with the keyboard; a page that is still settling may take the focus away."""
        field = self.field(label)
        for _ in range(5):
            field.focus()
            if field.evaluate("element => element === document.activeElement"):
                field.press("Control+a")
                field.press_sequentially(text)
            if field.input_value() == text:
                return
        raise AssertionError(f"{label} holds {field.input_value()!r}, {text!r} was typed")

    def is_shown(self, words: str) -> bool:
        """Say whether words are visible in the current notebook now."""
        found = self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)").get_by_text(words)
        return any(one.is_visible() for one in found.all())

    def see(self, words: Any) -> None:
        """Wait until words, or what matches a pattern, stand in the current notebook."""
        self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)").get_by_text(words).first.wait_for()

    def save(self) -> None:
        """Save the notebook and wait until nothing is unsaved."""
        self.command("docmanager:save")
        self.page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the system's chromium, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def is_installed() -> bool:
    """Say whether there is a browser to test with."""
    return shutil.which(CHROMIUM) is not None
