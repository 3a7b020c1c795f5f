"""What a forked child does: take on the requester's surroundings, forget the parent's, and be an ordinary kernel."""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import random
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from importlib.util import find_spec
from typing import Any

from runbook_kernels import protocol

_REQUEST_SECONDS = 10.0
_CONTROL_SECONDS = 1.0


class ClientWatch(threading.Thread):
    """Ends the kernel at once when the process that asked for it has ended."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(name="client-watch", daemon=True)
        self._descriptor = descriptor

    def run(self) -> None:
        """Wait for the end of the client."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        while not poll.poll():
            continue
        os._exit(1)


def run_kernel(connection: socket.socket, environment: dict[str, str]) -> None:
    """Read the request from `connection` and be that kernel until it ends.

    `environment` is what imports set in the parent; what the request says comes first.
    """
    connection.settimeout(_REQUEST_SECONDS)
    client, _ = protocol.peer(connection)
    try:
        watched = os.pidfd_open(client)
        request, streams = protocol.receive_request(connection)
    except (EOFError, ProcessLookupError, TimeoutError):
        raise SystemExit(1) from None
    _adopt(request, streams, environment)
    _reseed()
    gc.enable()

    from ipykernel.kernelapp import IPKernelApp

    app = IPKernelApp.instance()
    app.parent_handle = 1  # no poller of its own: it would watch the fork server instead of the client
    app.initialize(request.arguments)  # type: ignore[no-untyped-call]
    if request.independent:
        os.close(watched)
    else:
        app.poller = ClientWatch(watched)
    _send_ready(connection)
    app.start()  # type: ignore[no-untyped-call]
    _end_control(app.control_thread)


def leave() -> None:
    """End this process as Python does, but for taking the parent's memory to pieces.

    Threads are waited for, what was registered to run at exit runs, and what this process has open is flushed. That an
    interpreter then visits each of its objects would copy all that is shared with the parent: 80 ms and as many MB for
    each kernel. What is left undone is what only the destructor of a module's global does.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    # IPython has collected the garbage by now. The parent's objects are frozen: they are not listed here.
    opened = [one for one in gc.get_objects() if type(one) in (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)]
    for one in (*opened, sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(OSError, ValueError):  # closed, or nobody listens
            if one is not None:
                one.flush()
    os._exit(0)


def _end_control(thread: Any) -> None:
    """Let the answer to the shutdown request be sent before the thread that sends it is stopped.

    ipykernel 7.4 stops that thread at exit, without waiting for the control thread. In about one run of ten the
    latter is then still flushing the streams; it waits ten seconds for nobody, and the client sends SIGTERM after
    two and a half.
    """
    if thread and thread.is_alive():
        thread.stop()
        thread.join(_CONTROL_SECONDS)


def _send_ready(connection: socket.socket) -> None:
    """Tell the requester that the sockets are bound: a client that connects earlier tries again only after 0.1 s."""
    with connection:
        try:
            protocol.send_line(connection, {"ready": True})
        except OSError:  # the watch will notice
            return


def _adopt(request: protocol.Request, streams: list[int], environment: dict[str, str]) -> None:
    """Set streams, signals, umask, folder, environment and arguments as a newly started process would find them."""
    sys.stdout.flush()
    sys.stderr.flush()
    for descriptor, number in zip(streams, (1, 2), strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    # The kernel lets interrupts through while a cell runs; one that comes earlier is not for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(request.umask)
    os.environ.clear()
    os.environ.update(environment | request.environment)
    time.tzset()
    tempfile.tempdir = None
    os.chdir(request.folder)
    launcher = find_spec("ipykernel_launcher")
    sys.argv = [launcher.origin if launcher and launcher.origin else "ipykernel_launcher", *request.arguments]


def _reseed() -> None:
    """Give this process random numbers of its own, in every generator that was seeded before the fork.

    Python reseeds `random`, and OpenSSL its generator, after a fork; `os.urandom`, `secrets` and `uuid4` ask the
    operating system. NumPy's and multiprocessing's are left. The seed of `hash(str)` cannot be changed.
    """
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "multiprocessing.process" in sys.modules:
        sys.modules["multiprocessing.process"].current_process().authkey = os.urandom(32)
