"""The sandbox as an HTTP server: moto's application behind the control commands, faults and clock.

`serve` blocks until interrupted, stopped or idle. `running` serves in a thread, for tests. Requests are not logged, so
no secret can be.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from runbook_lib.aws.sandbox_process import FILE_NAME, FORMAT, is_loopback
from runbook_lib.errors import SandboxUnavailable
from runbook_sandbox.instruments import clock, ids
from runbook_sandbox.kms import wrapping_keys
from runbook_sandbox.server import control_commands
from runbook_sandbox.server.middleware import Gate, Walls
from runbook_sandbox.server.overrides import install as install


class _Handler(WSGIRequestHandler):
    """moto gap: the Date header is the machine's time; here it is the sandbox's clock."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(clock.now().timestamp() if timestamp is None else timestamp)

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Log nothing: request lines and headers may contain secrets."""


class _Dispatcher(DomainDispatcherApplication):
    """moto gap: it lists its own directory on each request to find the service of a host."""

    def __init__(self) -> None:
        super().__init__(create_backend_app)
        self._known: dict[str, Any] = {}

    def prepare(self) -> None:
        """Create in advance what the first request to each service would create, in up to a fifth of a second each."""
        for service in ("sts", "iam", "rds", "ec2", "kms", "secretsmanager", "cloudtrail"):
            with self.lock:
                name = self.get_backend_for_host(service)
                if name not in self.app_instances:
                    self.app_instances[name] = self.create_app(name)

    def get_backend_for_host(self, host: str | None) -> Any:
        if host is None:
            return None
        if host not in self._known:
            self._known[host] = super().get_backend_for_host(host)
        return self._known[host]


def _make(
    host: str, port: int, *, allow_remote: bool, room: Walls | None = None
) -> tuple[BaseWSGIServer, Gate, str, _Dispatcher]:
    if not is_loopback(host) and not allow_remote:
        raise SandboxUnavailable(
            f"the sandbox has no passwords, so it serves this machine only; to serve {host}, pass --host {host}"
        )
    install()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    dispatcher = _Dispatcher()
    gate = Gate(dispatcher, host=host, room=room)
    try:
        server = make_server(host, port, gate, threaded=True, request_handler=_Handler)
    except SystemExit as error:  # how werkzeug reports that the port is in use
        raise SandboxUnavailable(f"port {port} on {host} is in use; choose another, or 0 for a free one") from error
    except OSError as error:
        raise SandboxUnavailable(f"cannot serve on {host}: {error}") from error
    server.daemon_threads = True  # type: ignore[attr-defined]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    if ":" in shown:
        shown = f"[{shown}]"
    return server, gate, f"http://{shown}:{server.server_port}", dispatcher


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    runs_dir: Path | None = None,
    idle_minutes: float | None = None,
    seed: int | None = None,
    announce: Callable[[str], None],
    allow_remote: bool = False,
    room: Walls | None = None,
) -> None:
    """Serve until SIGINT, SIGTERM, a stop command, or `idle_minutes` without a request.

    `announce` is called once with the URL, when requests are answered. With `runs_dir` the sandbox writes its endpoint
    file there, and ends when another sandbox has replaced the file, or the folder was deleted.
    Raises SandboxUnavailable if the address is in use, or is not this machine's without `allow_remote`.
    """
    server, gate, url, dispatcher = _make(host, port, allow_remote=allow_remote, room=room)
    ids.configure(seed)
    ended = threading.Event()
    gate.on_stop = ended.set
    note = EndpointFile(runs_dir, url) if runs_dir is not None else None
    if note is not None:
        note.write()
        gate.on_new_identity = note.write
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    announce(url)
    dispatcher.prepare()
    wrapping_keys.keep_spare()
    while not ended.wait(1.0):
        if idle_minutes is not None and time.monotonic() - gate.last_request > idle_minutes * 60:
            break
        if note is not None and not note.holds():
            break
    server.shutdown()
    server.server_close()
    if note is not None:
        note.remove()


@contextlib.contextmanager
def running(*, seed: int | None = None, room: Walls | None = None) -> Iterator[str]:
    """Serve in a thread of this process, on a free port; yield the URL. For tests."""
    server, _, url, _ = _make("127.0.0.1", 0, allow_remote=False, room=room)
    before = ids.seed()
    ids.configure(seed)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        ids.configure(before)


class EndpointFile:
    """The file with this sandbox's endpoint: written atomically, mode 0600, ours only while it names this sandbox."""

    def __init__(self, runs_dir: Path, url: str) -> None:
        self.path = runs_dir / FILE_NAME
        self.url = url
        self._missed = 0

    def write(self) -> None:
        """Write URL, process and id; called again when a reset has changed the id."""
        content = {
            "format": FORMAT, "url": self.url, "pid": os.getpid(), "sandbox_id": control_commands.sandbox_id,
            "started": clock.now().isoformat(),
        }  # fmt: skip
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".sandbox-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)

    def _names_this_sandbox(self) -> bool:
        try:
            noted = json.loads(self.path.read_text(encoding="utf-8"))
            return bool(noted["url"] == self.url and noted["pid"] == os.getpid())
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def holds(self) -> bool:
        """Return whether the file still names this sandbox; two misses are tolerated, as a write may be in progress."""
        self._missed = 0 if self._names_this_sandbox() else self._missed + 1
        return self._missed < 3

    def remove(self) -> None:
        """Remove the file, unless it names another sandbox."""
        if self._names_this_sandbox():
            with contextlib.suppress(OSError):
                self.path.unlink()
