"""Ask the parent for a kernel, starting the parent first where none serves the present code."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from runbook_lib.fork_kernel import protocol
from runbook_lib.fork_kernel.errors import ServerUnavailable
from runbook_lib.fork_kernel.folder import Folder
from runbook_lib.fork_kernel.identity import Identity, ServerSpec, identify
from runbook_lib.fork_kernel.process import ForkedProcess

ANSWER_SECONDS = 60.0
_BACKLOG = 128
_SUFFIX = ".socket"

_unavailable: set[str] = set()


def launch(spec: ServerSpec, request: protocol.Request, streams: tuple[int, int]) -> ForkedProcess:
    """Return a new kernel process, forked by the parent for `spec`.

    Raises `ServerUnavailable`; a parent that failed once is not asked again by this process until code changes.
    """
    identity = identify(spec)
    if identity.name in _unavailable:
        raise ServerUnavailable("the fork server failed before; a change of code makes another try")
    connection: socket.socket | None = None
    try:
        connection = _connect(spec, identity)
        connection.settimeout(ANSWER_SECONDS)
        protocol.send_request(connection, request, streams)
        answer, descriptors = protocol.receive_line(connection)
        if "error" in answer:
            raise ServerUnavailable(f"the fork server refused: {answer['error']}")
        return ForkedProcess(answer["pid"], descriptors[0], connection)
    except (OSError, EOFError, ServerUnavailable) as error:
        _unavailable.add(identity.name)
        if connection is not None:
            connection.close()
        if isinstance(error, ServerUnavailable):
            raise
        raise ServerUnavailable(f"the fork server did not answer ({error})") from error


def start(spec: ServerSpec) -> None:
    """Start the parent for `spec` unless it serves already; do not wait for it. Raises `ServerUnavailable`."""
    try:
        _connect(spec, identify(spec)).close()
    except OSError as error:
        raise ServerUnavailable(f"the fork server could not be started ({error})") from error


def _connect(spec: ServerSpec, identity: Identity) -> socket.socket:
    """Return a connection to the parent of this identity, which is started if need be and may still be importing."""
    with Folder.opened() as folder:
        connection = _try(folder, identity.name + _SUFFIX)
        if connection is None:
            with folder.locked():
                connection = _try(folder, identity.name + _SUFFIX)
                if connection is None:
                    _start(folder, spec, identity)
                    connection = _try(folder, identity.name + _SUFFIX)
            _retire_others(folder, identity)
    if connection is None:
        raise ServerUnavailable("the fork server ended as soon as it was started")
    return connection


def _try(folder: Folder, name: str) -> socket.socket | None:
    """Return a connection to the parent at `name`, or None where nobody listens."""
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
    """Bind the socket and start a parent on it: whoever connects from now on waits until it has imported."""
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
                env=dict(spec.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o077,
            )
            status = starter.wait(ANSWER_SECONDS)  # it forks the parent and is gone
    except subprocess.TimeoutExpired as error:
        starter.kill()
        starter.wait()
        raise ServerUnavailable("the fork server did not start in time") from error
    finally:
        os.close(log)
    if status:
        folder.unlink(name)
        raise ServerUnavailable(f"the fork server ended with status {status}")


def _retire_others(folder: Folder, identity: Identity) -> None:
    """Tell parents of the same scope with older code to end when their kernels have."""
    for name in folder.names():
        if name.startswith(identity.scope) and name.endswith(_SUFFIX) and name != identity.name + _SUFFIX:
            connection = _try(folder, name)
            if connection is None:
                folder.unlink(name)
                continue
            with connection:
                try:
                    connection.sendall(protocol.RETIRE)
                except BrokenPipeError:  # it was ending anyway
                    continue
