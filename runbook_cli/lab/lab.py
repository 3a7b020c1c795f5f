"""`runbook lab`: JupyterLab on the runbook, with its start page and its sandbox, and the orderly end of all of it."""

from __future__ import annotations

import contextlib
import html
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from runbook_cli.lab.start_page import start_page
from runbook_lib.aws import sandbox_process
from runbook_lib.errors import LabFailed, LabNotInstalled, PortTaken
from runbook_lib.files import private_folder, write_private, write_whole
from runbook_lib.pages.pictures import standing, who_holds_which_key
from runbook_lib.run.paths import checkout, notebooks_folder
from runbook_lib.run.run import all_runs

PAGE = "START.md"
_TOKEN = "token"  # noqa: S105 - names a file
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 15.0
_POLL_SECONDS = 1.0
_IDLE_MINUTES = 24 * 60
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Place:
    """What JupyterLab serves: a root, and below it the notebooks, the runs and the pages to read."""

    root: Path
    notebooks: Path
    runs: Path

    @property
    def url_path(self) -> str:
        """The start page's path in JupyterLab."""
        return f"/lab/tree/{(self.runs / PAGE).relative_to(self.root).as_posix()}"

    def from_page(self, path: Path) -> str:
        """Return `path` as a link from the start page, or empty when it is not there."""
        return Path(os.path.relpath(path, self.runs)).as_posix() if path.exists() else ""


def place_for(runs_dir: Path) -> Place:
    """Return where to work: the checkout when the runs lie in it, else the runs folder with a copy of the notebooks.

    A copy that is there already is kept: it may hold somebody's answers.
    """
    top = checkout()
    if top and runs_dir.resolve().is_relative_to(top.resolve()):
        return Place(top, notebooks_folder(), runs_dir)
    copy = private_folder(runs_dir / "_notebooks", parents=True)  # no run id begins so
    for notebook in sorted(notebooks_folder().glob("*.ipynb")):
        if not (copy / notebook.name).exists():
            shutil.copyfile(notebook, copy / notebook.name)
    return Place(runs_dir, copy, runs_dir)


def write_page(place: Place, *, target: str) -> None:
    """Write the start page and its pictures where they would say something else than they do."""
    top, runs = checkout(), all_runs(place.runs)
    pictures = {"keys": who_holds_which_key(), **({"run": standing(runs[-1])} if runs else {})}
    for name, picture in pictures.items():
        _write(place.runs / f"START-{name}.png", picture.png)
    docs = place.from_page(top / "docs") if top and place.root == top else ""
    notebooks = place.from_page(place.notebooks)
    page = start_page(runs, target=target, notebooks=notebooks, docs=docs)
    _write(place.runs / PAGE, page.encode())


def _write(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        write_whole(path, content)


def free_port(port: int) -> int:
    """Return `port` if it is free on this machine, or a free one for 0. Raises `PortTaken`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise PortTaken(
                f"port {port} cannot be used ({error}); give another --port, or 0 for a free one"
            ) from error
        return int(probe.getsockname()[1])


def serve(
    runs_dir: Path,
    *,
    port: int = 0,
    browser: bool = True,
    target: str = "sandbox",
    print_line: Callable[[str], None] = print,
) -> None:
    """Serve JupyterLab until interrupted, then end it, its kernels, and the sandbox if it was started here.

    Whoever has the token is the learner. It lies in files that only their owner can read, is on no command line and in
    no environment, and is printed only without a browser.

    Raises `LabNotInstalled`, `PortTaken`, `LabFailed` and `SandboxUnavailable`.
    """
    if find_spec("jupyterlab") is None:
        raise LabNotInstalled("JupyterLab is not installed; run: pip install 'aurora-byok-runbook[lab,sandbox]'")
    port = free_port(port)
    private_folder(runs_dir, parents=True)
    place = place_for(runs_dir)
    started_here = target == "sandbox" and sandbox_process.find(runs_dir) is None
    interrupted = _set_when_interrupted()
    server = JupyterLab(place, port)
    try:
        if target == "sandbox":
            print_line(f"Sandbox     {sandbox_process.ensure(runs_dir, idle_minutes=_IDLE_MINUTES).url}")
        else:
            print_line("REAL AWS    no sandbox was started: what you apply is made in your account, and costs money")
        write_page(place, target=target)
        server.start()
        server.wait_until_ready(interrupted)
        if not interrupted.is_set():
            print_line(f"JupyterLab  {server.url}\nCtrl-C ends everything.")
            if browser:
                webbrowser.open(server.url)
        while not interrupted.wait(_POLL_SECONDS):
            write_page(place, target=target)
            server.require_running("ended by itself", "run the command again")
    finally:
        server.end()
        stopped = started_here and sandbox_process.stop(runs_dir)
        print_line(f"JupyterLab and its kernels have ended{', and the sandbox' if stopped else ''}.")


def _set_when_interrupted() -> threading.Event:
    event = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: event.set())
    return event


class JupyterLab:
    """The JupyterLab process: its token, and a folder for the sockets of its kernels."""

    def __init__(self, place: Place, port: int) -> None:
        self._place, self._port = place, port
        self._token = secrets.token_hex(16)
        # Socket paths must be short; a folder of their own leaves nothing behind. Mode 0700.
        self._runtime = tempfile.mkdtemp(prefix="runbook-lab-", dir="/tmp" if Path("/tmp").is_dir() else None)  # noqa: S108
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def _origin(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The address of the start page, with the token."""
        return f"{self._origin}{self._place.url_path}?token={self._token}"

    def start(self) -> None:
        """Start JupyterLab apart from the terminal, so that Ctrl-C reaches this process only and asks no question."""
        options = {
            "ServerApp.root_dir": self._place.root,
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": self._port,
            "ServerApp.port_retries": 0,
            "ServerApp.open_browser": False,
            "ServerApp.allow_root": hasattr(os, "geteuid") and os.geteuid() == 0,  # as in most containers
            "LabApp.default_url": self._place.url_path,
            "LabApp.app_settings_dir": files("runbook_cli") / "lab" / "settings",
            "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
            "ContentsManager.pre_save_hook": "runbook_cli.lab.saved_pages.without_widgets",
            "KernelManager.transport": "ipc",  # no ports for kernels, and nothing that others could listen to
            "Application.log_level": "ERROR",
        }
        command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
        # The token goes through the environment: a command line can be read by everybody on the machine.
        environment = {**os.environ, "RUNBOOK_RUNS_DIR": str(self._place.runs)}
        environment |= {"JUPYTER_TOKEN": self._token, "JUPYTER_RUNTIME_DIR": self._runtime}
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
            command, stdin=subprocess.DEVNULL, start_new_session=True, env=environment
        )

    def require_running(self, what_happened: str, what_to_do: str) -> None:
        """Raise `LabFailed` when the process has ended."""
        code = self._process.poll() if self._process else None
        if code is not None:
            raise LabFailed(f"JupyterLab {what_happened} (exit code {code}); {what_to_do}")

    def wait_until_ready(self, interrupted: threading.Event) -> None:
        """Return when JupyterLab answers, or when it is no longer wanted. Raises `LabFailed`."""
        deadline = time.monotonic() + _START_TIMEOUT
        while not interrupted.is_set():
            self.require_running("did not start", "see what it said above")
            try:
                with _opener.open(f"{self._origin}/api", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                if time.monotonic() > deadline:
                    raise LabFailed(f"JupyterLab did not answer within {_START_TIMEOUT:.0f} s; try again") from None
            interrupted.wait(0.1)

    def end(self) -> None:
        """Ask JupyterLab to end with its kernels; kill it, and all it started, when that takes too long."""
        if self._process is not None:
            self._shut_down(self._process)
        shutil.rmtree(self._runtime, ignore_errors=True)

    def _shut_down(self, process: subprocess.Popen[bytes]) -> None:
        request = urllib.request.Request(  # noqa: S310 - http, above
            f"{self._origin}/api/shutdown", method="POST", headers={"Authorization": f"token {self._token}"}
        )
        try:
            _opener.open(request, timeout=5).close()
        except (urllib.error.URLError, OSError):
            process.terminate()
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
