"""One attempt of the crash matrix: a forked process that runs the chain and is broken at one call or write."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.httpsession
from notebook_cells import execute_cells

import runbook_kernels
from runbook_cli.runner import chain, notebook
from runbook_lib.errors import RunbookError
from runbook_lib.inputs.start import StartInputs
from runbook_lib.run.run import Run
from runbook_lib.run.steps import ROTATE_KEY_MATERIAL

RUN, ROTATION, CLEAN_UP_PHASE = "run", "rotation", "clean-up"
AWAY = "-away"
RUN_ID, REGION, CLUSTER, ALIAS = "crash", "eu-west-2", "crash-cluster", "alias/crash"
OF_CALLS_ONLY = frozenset({"drop", "throttle", "error", "invisible"})
_rename = os.rename


@dataclass(frozen=True)
class Point:
    """Where and how the chain is broken: phase, number and name of the event, mode, and the calls before it."""

    phase: str
    number: int
    what: str
    mode: str
    calls_before: int
    acts_at: int = 0  # the event before which somebody else acts

    def __str__(self) -> str:
        return f"{self.mode} {self.phase} {self.number}: {self.what}"


class Events:
    """Count AWS calls and file writes, and break the process at one of them."""

    def __init__(self, folder: Path, *, point: Point | None) -> None:
        self.folder = str(folder)
        self.point = point
        self.seen: list[str] = []
        self.full = False
        self.others: Callable[[Point, Events], None] | None = None
        self.quiet = False  # while somebody else acts in this process

    def around(self, what: str, act: Callable[[], Any]) -> Any:
        """Call `act`; break the process before or after it if this is the point."""
        if self.quiet:
            return act()
        self.seen.append(what)
        if self.others is not None and self.point is not None and len(self.seen) == self.point.acts_at:
            self.quiet = True
            self.others(self.point, self)
            self.quiet = False
        mine = self.point is not None and len(self.seen) == self.point.number
        mode = self.point.mode if self.point is not None and mine else ""
        if mode == "kill-before":
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "interrupt":
            raise KeyboardInterrupt
        if mode == "vanish" and os.path.isdir(f"{self.folder}/{RUN_ID}"):
            _rename(f"{self.folder}/{RUN_ID}", self.folder + AWAY)
        self.full = self.full or mode == "full"
        if self.full and what.startswith(("file:open", "file:mkdir")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        try:
            return act()
        finally:
            if mode == "kill-after":
                os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Wrap the function that sends botocore's requests, and the functions of `os` that change files."""
        send = botocore.httpsession.URLLib3Session.send
        botocore.httpsession.URLLib3Session.send = lambda session, request: self.around(
            _operation(request), lambda: send(session, request)
        )
        for name in ("open", "replace", "rename", "unlink", "remove", "mkdir", "rmdir", "link"):
            setattr(os, name, self._watched(name, getattr(os, name)))
        sys.addaudithook(self._complete)
        self.known = 0

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def watched(path: Any, *more: Any, **named: Any) -> Any:
            flags = more[0] if more else named.get("flags", 0)
            if not _under(path, self.folder) or (name == "open" and not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                return real(path, *more, **named)
            self.known += 1
            try:
                return self.around(f"file:{name} {_name(path, self.folder)}", lambda: real(path, *more, **named))
            finally:
                self.known -= 1

        return watched

    def _complete(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Exit with an error when a file in the runs folder is changed by a function that is not wrapped."""
        if self.known or event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
            return
        writes = event != "open" or bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if writes and _under(arguments[0], self.folder):
            os.write(2, f"not watched: {event} {arguments[0]}\n".encode())
            os._exit(70)


def _under(path: Any, folder: str) -> bool:
    return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(folder)


def _name(path: Any, folder: str) -> str:
    """Return a file name without the parts that differ between runs."""
    name = os.fspath(path).removeprefix(folder).lstrip("/").removeprefix(f"{RUN_ID}/")
    name = re.sub("materials/[0-9a-f]{6}", "materials/NEW", name)
    name = re.sub(r"Import_Parameters_.*\.zip", "Import_Parameters.zip", re.sub(r"\d{8}T\d{6}Z", "TIME", name))
    return re.sub(r"(^|/)(\.writing-.*)\..*$", r"\1\2", name)


def _operation(request: Any) -> str:
    target = request.headers.get("X-Amz-Target")
    if target:
        text = target.decode() if isinstance(target, bytes) else target
        return f"aws:{text.split('.')[-1]}"
    body = request.body.decode() if isinstance(request.body, bytes) else str(request.body or "")
    return "aws:" + next((part[7:] for part in body.split("&") if part.startswith("Action=")), request.url)


class _NoKernels(contextlib.nullcontext):
    """Replace the runner's kernels: the cells are executed in this process."""

    def __enter__(self) -> Any:
        return self

    def start_ahead(self) -> None:
        """Start nothing."""

    def drop(self) -> None:
        """Drop nothing."""


@dataclass
class Outcome:
    """How an attempt ended: "done", "stopped" (a runbook error), "killed", "interrupted" or "crashed"."""

    how: str
    said: str
    events: list[str]


class Attempts:
    """Fork attempts against one sandbox, each with the account and folder of its seat."""

    def __init__(self, url: str, folder: Path, recovery: tuple[bytes, bytes]) -> None:
        self.url = url
        self.folder = folder
        self.private, public = recovery
        self.public = folder / "recovery-public.pem"
        self.public.write_bytes(public)

    def parameters(self, account: str, target: str = "sandbox") -> dict[str, Any]:
        """Return the parameters of a run that creates every resource a run can create."""
        return {
            "target": target, "account_id": account, "region": REGION, "key_alias": ALIAS,
            "db_cluster_identifier": CLUSTER, "reader_count": 1, "allowed_cidr": "10.0.0.0/16", "take_snapshot": True,
            "wrapping_key_spec": "RSA_2048", "recovery_public_keys": [str(self.public)],
        }  # fmt: skip

    def run_step(self, runs: Path, account: str, source: Path) -> None:
        """Execute the cells of one notebook in this process."""
        os.environ.update(RUNBOOK_RUNS_DIR=str(runs), RUNBOOK_SANDBOX_ENDPOINT=self.url, RUNBOOK_ATTENDED="0")
        given = {name: value for name, value in self.parameters(account).items() if name in StartInputs.model_fields}
        with contextlib.redirect_stdout(io.StringIO()):
            if error := execute_cells(source, runs, {"run_id": RUN_ID, "exercises": False, **given}):
                raise RuntimeError(error)

    def run(self, runs: Path, account: str, phase: str, target: str = "sandbox") -> None:
        """Run 00 to 06, 20 or 90 with the runner's code; the cells are executed in this process."""
        os.environ.update(RUNBOOK_RUNS_DIR=str(runs), RUNBOOK_SANDBOX_ENDPOINT=self.url, RUNBOOK_ATTENDED="0")
        runbook_kernels.start = lambda: None
        notebook.kernels = _NoKernels
        notebook.execute_notebook = lambda source, output, given, *_, **__: execute_cells(source, output, given)
        chain.Chain._prepare_session = lambda _: None  # no thread in a process that is broken
        with contextlib.redirect_stdout(io.StringIO()):
            if phase == RUN:
                chain.run_chain(self.parameters(account, target), run_id=RUN_ID, runs_dir=runs, print_line=str)
                return
            run = Run.open(RUN_ID, runs_dir=runs)
            if phase == ROTATION:
                given = {"recovery_public_keys": [str(self.public)], "exercises": False}
                chain.execute_one(run, ROTATE_KEY_MATERIAL, given, what="runbook rotate", print_line=str)
            else:
                chain.clean_up(run, {"confirm_db_cluster_identifier": CLUSTER, "exercises": False}, print_line=str)

    def attempt(
        self, runs: Path, account: str, phase: str, *, point: Point | None = None, target: str = "sandbox"
    ) -> Outcome:
        """Run the steps of the phase that are left in a forked process; return how it ended."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            self._in_the_child(runs, account, phase, point, writer, target)
        os.close(writer)
        with os.fdopen(reader, "rb") as output:
            said = output.read().decode(errors="replace")
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return Outcome("killed", said, [])
        how = {0: "done", 1: "stopped", 2: "interrupted"}.get(os.WEXITSTATUS(status), "crashed")
        return Outcome(how, "" if how == "done" else said, said.splitlines() if how == "done" else [])

    def _in_the_child(
        self, runs: Path, account: str, phase: str, point: Point | None, writer: int, target: str
    ) -> None:
        from crash_others import Others, redirect_aws

        code, said = 3, ""
        try:
            runs.mkdir(mode=0o700, exist_ok=True)
            sleep, longest = time.sleep, 1.0 if point is not None and point.mode == "invisible" else 0.02
            time.sleep = lambda seconds: sleep(min(seconds, longest))
            credentials = redirect_aws(self.url, account) if target == "aws" else None
            events = Events(runs, point=point)
            events.others = Others(self, runs, account, credentials).act
            events.install()
            self.run(runs, account, phase, target)
            code, said = 0, "\n".join(events.seen)
            if point is not None and point.mode not in OF_CALLS_ONLY and len(events.seen) < point.number:
                code, said = 3, f"the point was not reached; there were only {len(events.seen)} events"
        except RunbookError as error:
            code, said = 1, str(error)
        except KeyboardInterrupt:
            code, said = 2, "interrupted"
        except BaseException:  # noqa: BLE001 - reported to the parent, then the process ends
            said = traceback.format_exc()
        finally:
            os.write(writer, said.encode()[-60_000:])
            os._exit(code)
