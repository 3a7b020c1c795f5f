"""`runbook lab`: start JupyterLab with the start page and a sandbox, and stop all of it on an interrupt."""

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

from runbook_cli.lab import copies
from runbook_cli.lab.room_report import RoomReport
from runbook_cli.lab.start_page import start_page
from runbook_lib.aws import sandbox_process, seat_file
from runbook_lib.errors import LabUnavailable
from runbook_lib.files import private_folder, write_private, write_whole
from runbook_lib.inputs.base import Inputs
from runbook_lib.pages.pictures import standing, who_holds_which_key
from runbook_lib.run.current import current_file, read_current
from runbook_lib.run.paths import shown
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
    """The folders that JupyterLab serves: a root, and below it the notebooks and the runs."""

    root: Path
    notebooks: Path
    runs: Path
    edited: tuple[str, ...] = ()

    @property
    def url_path(self) -> str:
        """The start page's path in JupyterLab."""
        return f"/lab/tree/{(self.runs / PAGE).relative_to(self.root).as_posix()}"


def place_for(runs_dir: Path) -> Place:
    """Return the runs folder, with copies of the notebooks that are without outputs and up to date.

    Edited copies are kept and named. Raises `FileNotWritable`.
    """
    edited = copies.renew(runs_dir)
    return Place(runs_dir, runs_dir / copies.FOLDER, runs_dir, tuple(edited))


def write_page(place: Place, *, target: str) -> None:
    """Write the start page and its pictures, if their content has changed."""
    runs = [run for run in all_runs(place.runs) if target == "sandbox" or run.target["target"] == target]
    name = read_current(current_file(place.runs, target)) or Inputs.model_fields["run_id"].default
    current = next((run for run in runs if run.path.name == name), None)
    pictures = {"keys": who_holds_which_key(), **({"run": standing(current)} if current else {})}
    for name, picture in pictures.items():
        _write(place.runs / f"START-{name}.png", picture.png)
    page = start_page(
        runs,
        target=target,
        notebooks=place.notebooks.name,
        current=current.path.name if current else "",
        edited=place.edited,
        room=seat_file.read(place.runs),
    )
    _write(place.runs / PAGE, page.encode())


def _write(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        write_whole(path, content)


def free_port(port: int) -> int:
    """Return `port` if it is free on this machine, or a free one for 0. Raises `LabUnavailable`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise LabUnavailable(
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
    """Serve JupyterLab until interrupted, then stop it, its kernels, and the sandbox if this call started it.

    The JupyterLab token grants full access to the session. It is stored in files that only their owner can read, never
    passed on a command line or in an environment variable, and printed only if no browser is opened.

    Raises `LabUnavailable` and `SandboxUnavailable`.
    """
    if find_spec("jupyterlab") is None:
        raise LabUnavailable("JupyterLab is not installed; run: pip install 'aurora-byok-runbook[lab,sandbox]'")
    port = free_port(port)
    private_folder(runs_dir, parents=True)
    place = place_for(runs_dir)
    started_here = target == "sandbox" and sandbox_process.find(runs_dir) is None
    interrupted = _set_when_interrupted()
    server, room = JupyterLab(place, port, target), RoomReport(runs_dir)
    try:
        print_line(_target_line(runs_dir, target))
        for name in place.edited:
            print_line(f"Kept        {shown(place.notebooks / name)}, which was edited; delete it to get the package's")
        write_page(place, target=target)
        server.start()
        server.wait_until_ready(interrupted)
        if not interrupted.is_set():
            address = f"{server.origin}, opening in your browser (if not: --no-browser prints the address)"
            print_line(f"JupyterLab  {address if browser else server.url}")
            print_line("Ctrl-C stops everything.")
            if browser and not server.open_browser():
                print_line(f"No browser could be started; open {server.url}")
        while not interrupted.wait(_POLL_SECONDS):
            write_page(place, target=target)
            if target == "sandbox":
                room.tick()
            server.require_running("stopped unexpectedly", "run the command again")
    finally:
        room.stop()
        server.end()
        stopped = started_here and sandbox_process.stop(runs_dir)
        print_line(
            "JupyterLab, its kernels and the sandbox have stopped."
            if stopped
            else "JupyterLab and its kernels have stopped."
        )


def _target_line(runs_dir: Path, target: str) -> str:
    """Start the sandbox, unless the target is AWS; return the line that shows where calls go."""
    if target == "sandbox":
        return f"Sandbox     {sandbox_process.ensure(runs_dir, idle_minutes=_IDLE_MINUTES).url}"
    return "REAL AWS    no sandbox was started; changes are made in your AWS account and cost money"


def _set_when_interrupted() -> threading.Event:
    event = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: event.set())
    return event


class JupyterLab:
    """The JupyterLab process: its token, and a folder for the sockets of its kernels."""

    def __init__(self, place: Place, port: int, target: str) -> None:
        self._place, self._port, self._target = place, port, target
        self._token = secrets.token_hex(16)
        # Socket paths must be short, and are removed with this folder. Mode 0700.
        self._runtime = tempfile.mkdtemp(prefix="runbook-lab-", dir="/tmp" if Path("/tmp").is_dir() else None)  # noqa: S108
        # Beside the runs, because a browser that is packaged as a snap has a /tmp of its own.
        self._opening = tempfile.mkdtemp(prefix=".lab-", dir=place.runs.resolve())
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def origin(self) -> str:
        """The address of the server, without the token."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The address of the start page, with the token."""
        return f"{self.origin}{self._place.url_path}?token={self._token}"

    def start(self) -> None:
        """Start JupyterLab in its own session, so that Ctrl-C reaches only this process and JupyterLab asks nothing."""
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
            "ContentsManager.pre_save_hook": "runbook_cli.lab.saved_pages.on_save",
            "MappingKernelManager.kernel_manager_class": "runbook_cli.lab.kernels.LabKernel",
            "LabKernel.current_run": current_file(self._place.runs, self._target),
            "LabKernel.lab_target": self._target,
            "KernelManager.transport": "ipc",  # kernels use no TCP ports, which other users could connect to
            "Application.log_level": "ERROR",
        }
        command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
        # Passed in a file: every user of the machine can read a command line, and every kernel inherits the environment.
        write_private(Path(self._runtime) / _TOKEN, self._token.encode())
        environment = {name: value for name, value in os.environ.items() if name != "JUPYTER_TOKEN"}
        environment |= {"JUPYTER_TOKEN_FILE": f"{self._runtime}/{_TOKEN}", "JUPYTER_RUNTIME_DIR": self._runtime}
        environment["RUNBOOK_RUNS_DIR"] = str(self._place.runs)
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
            command, stdin=subprocess.DEVNULL, start_new_session=True, env=environment
        )

    def open_browser(self) -> bool:
        """Have a browser open a page that leads to `url`, so that the token is not on its command line.

        As Jupyter's `use_redirect_file` does, which would start the browser apart from the terminal. Return whether a
        browser was started.
        """
        page, link = Path(self._opening) / "open.html", html.escape(self.url)
        write_private(
            page,
            f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>Opening JupyterLab</title>\n'
            f'<meta http-equiv="refresh" content="0;url={link}"><p><a href="{link}">Open JupyterLab</a></p></html>\n'.encode(),
        )
        return webbrowser.open(page.as_uri())

    def require_running(self, what_happened: str, what_to_do: str) -> None:
        """Raise `LabUnavailable` when the process has ended."""
        code = self._process.poll() if self._process else None
        if code is not None:
            raise LabUnavailable(f"JupyterLab {what_happened} (exit code {code}); {what_to_do}")

    def wait_until_ready(self, interrupted: threading.Event) -> None:
        """Return when JupyterLab responds, or on an interrupt. Raises `LabUnavailable`."""
        deadline = time.monotonic() + _START_TIMEOUT
        while not interrupted.is_set():
            self.require_running("did not start", "see its messages above")
            try:
                with _opener.open(f"{self.origin}/api", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                if time.monotonic() > deadline:
                    raise LabUnavailable(
                        f"JupyterLab did not respond within {_START_TIMEOUT:.0f} s; run the command again"
                    ) from None
            interrupted.wait(0.1)

    def end(self) -> None:
        """Shut JupyterLab and its kernels down; kill its process group after a timeout."""
        if self._process is not None:
            self._shut_down(self._process)
        for folder in (self._runtime, self._opening):
            shutil.rmtree(folder, ignore_errors=True)

    def _shut_down(self, process: subprocess.Popen[bytes]) -> None:
        request = urllib.request.Request(  # noqa: S310 - http, above
            f"{self.origin}/api/shutdown", method="POST", headers={"Authorization": f"token {self._token}"}
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
