"""Request a kernel from the parent; start a parent first if none runs the current code."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import time

from runbook_kernels import protocol
from runbook_kernels.errors import ServerUnavailable, UnsafeFolder
from runbook_kernels.folder import Folder
from runbook_kernels.identity import Identity, ServerSpec, identify
from runbook_kernels.process import ForkedProcess

ANSWER_SECONDS = 60.0
READY_SECONDS = 5.0
RETRY_SECONDS = 60.0
# glibc raises this limit dynamically and then keeps freed memory: 11 MB in a kernel that has drawn pictures.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(128 * 1024)}
_BACKLOG = 128
_SUFFIX = ".socket"

_failed: dict[str, float] = {}


def launch(spec: ServerSpec, request: protocol.Request, streams: tuple[int, int]) -> ForkedProcess:
    """Return a new kernel process, forked by the parent for `spec`.

    Raises `ServerUnavailable`; this process does not retry a failed parent for RETRY_SECONDS.
    """
    identity = identify(spec)
    if time.monotonic() - _failed.get(identity.name, -math.inf) < RETRY_SECONDS:
        raise ServerUnavailable("the fork server failed less than a minute ago")
    connection: socket.socket | None = None
    try:
        connection = _connect(spec, identity)
        connection.settimeout(ANSWER_SECONDS)
        protocol.send_request(connection, request, streams)
        process = _await_pid(connection)
        process.await_ready(READY_SECONDS)
        return process
    except (OSError, EOFError, ServerUnavailable) as error:
        if not isinstance(error, UnsafeFolder):
            _failed[identity.name] = time.monotonic()
        if connection is not None:
            connection.close()
        if isinstance(error, ServerUnavailable):
            raise
        raise ServerUnavailable(f"the fork server did not answer ({error})") from error


def _await_pid(connection: socket.socket) -> ForkedProcess:
    """Return the kernel process that the parent announces. The kernel's ready message may arrive before."""
    ready = False
    while True:
        line, descriptors = protocol.receive_line(connection)
        if "error" in line:
            raise ServerUnavailable(f"the fork server refused: {line['error']}")
        if "pid" in line:
            return ForkedProcess(line["pid"], descriptors[0], connection, ready=ready)
        ready = True


def start(spec: ServerSpec) -> None:
    """Start the parent for `spec` unless it is running; do not wait until it is ready. Raises `ServerUnavailable`."""
    try:
        _connect(spec, identify(spec)).close()
    except OSError as error:
        raise ServerUnavailable(f"the fork server could not be started ({error})") from error


def _connect(spec: ServerSpec, identity: Identity) -> socket.socket:
    """Return a connection to the parent of this identity, started if necessary; it may still be importing."""
    with Folder.opened() as folder:
        connection = _try(folder, identity.name + _SUFFIX)
        if connection is None:
            with folder.locked():
                connection = _try(folder, identity.name + _SUFFIX)
                if connection is None:
                    _start(folder, spec, identity)
                    connection = _try(folder, identity.name + _SUFFIX)
            _retire(folder, scope=identity.scope, but=identity.name)
    if connection is None:
        raise ServerUnavailable("the fork server ended as soon as it was started")
    return connection


def _try(folder: Folder, name: str) -> socket.socket | None:
    """Return a connection to the parent at `name`, or None when no process listens there."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(ANSWER_SECONDS)
    try:
        connection.connect(folder.address(name))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    if protocol.peer(connection)[1] != os.getuid():
        connection.close()
        raise ServerUnavailable("the fork server belongs to another user")
    return connection


def _start(folder: Folder, spec: ServerSpec, identity: Identity) -> None:
    """Bind the socket and start a parent on it. Clients can connect at once and wait until it has imported."""
    name = identity.name + _SUFFIX
    folder.unlink(name)
    log = folder.create(f"{identity.scope}.log")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(folder.address(name))
            listener.listen(_BACKLOG)
            inherited = (listener.fileno(), folder.descriptor)
            command = [sys.executable, *spec.options, "-m", f"{__package__}.server"]
            command += [*map(str, inherited), name, str(spec.idle_seconds), *spec.preload]
            starter = subprocess.Popen(  # noqa: S603 - this interpreter, a module of this package
                command,
                pass_fds=inherited,
                cwd="/",
                env={**_MALLOC, **spec.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o077,
            )
            status = starter.wait(ANSWER_SECONDS)  # it forks the parent and exits
    except subprocess.TimeoutExpired as error:
        starter.kill()
        starter.wait()
        raise ServerUnavailable("the fork server did not start in time") from error
    finally:
        os.close(log)
    if status:
        folder.unlink(name)
        raise ServerUnavailable(f"the fork server ended with status {status}")


def retire(scope: str = "") -> None:
    """Tell all parents, or those of one scope, to exit when their kernels have ended. Raises `ServerUnavailable`."""
    with Folder.opened() as folder:
        _retire(folder, scope=scope, but="")


def _retire(folder: Folder, *, scope: str, but: str) -> None:
    for name in folder.names():
        if name.startswith(scope) and name.endswith(_SUFFIX) and name != but + _SUFFIX:
            connection = _try(folder, name)
            if connection is None:
                folder.unlink(name)
                continue
            with connection:
                try:
                    connection.sendall(protocol.RETIRE)
                except BrokenPipeError:  # it is already exiting
                    continue
