"""The forked child: take over the requester's environment in place of the parent's, and run an ordinary kernel."""

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
    """End the kernel as soon as the process that requested it has ended."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(name="client-watch", daemon=True)
        self._descriptor = descriptor

    def run(self) -> None:
        """Wait until the client has ended, then exit."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        while not poll.poll():
            continue
        os._exit(1)


def run_kernel(connection: socket.socket, environment: dict[str, str]) -> None:
    """Read the request from `connection` and run that kernel until it ends.

    `environment` holds the variables that imports set in the parent; those of the request take precedence.
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
    app.parent_handle = 1  # disable ipykernel's poller: it would watch the fork server, not the client
    app.initialize(request.arguments)  # type: ignore[no-untyped-call]
    if request.independent:
        os.close(watched)
    else:
        app.poller = ClientWatch(watched)
    _send_ready(connection)
    app.start()  # type: ignore[no-untyped-call]
    _end_control(app.control_thread)


def leave() -> None:
    """Exit as Python does, but without finalizing the objects inherited from the parent.

    Joins threads, runs the exit handlers and flushes open files. Finalizing the interpreter would touch every object
    and so copy all memory shared with the parent: 80 ms and 80 MB per kernel. Destructors of module globals do not
    run.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    # IPython has collected garbage by now. The parent's objects are frozen and so not listed here.
    opened = [one for one in gc.get_objects() if type(one) in (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)]
    for one in (*opened, sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads the pipe
            if one is not None:
                one.flush()
    os._exit(0)


def _end_control(thread: Any) -> None:
    """Wait for the control thread, which sends the reply to the shutdown request.

    ipykernel 7.4 stops the I/O thread at exit without waiting for the control thread. In about one run of ten, the
    control thread is still flushing the streams then and waits ten seconds in vain, while the client sends SIGTERM
    after 2.5 seconds.
    """
    if thread and thread.is_alive():
        thread.stop()
        thread.join(_CONTROL_SECONDS)


def _send_ready(connection: socket.socket) -> None:
    """Tell the requester that the sockets are bound: a client that connects earlier fails, and retries after 0.1 s."""
    with connection:
        try:
            protocol.send_line(connection, {"ready": True})
        except OSError:  # the client watch handles it
            return


def _adopt(request: protocol.Request, streams: list[int], environment: dict[str, str]) -> None:
    """Set streams, signals, umask, folder, environment and arguments as in a newly started process."""
    sys.stdout.flush()
    sys.stderr.flush()
    for descriptor, number in zip(streams, (1, 2), strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    _adopt_signals(set(request.ignored))
    # The kernel enables interrupts while a cell runs; ignore earlier ones.
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


def _adopt_signals(ignored: set[int]) -> None:
    """Ignore what the requester ignores, and nothing else: not what the parent, or whoever started it, set."""
    own = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGKILL, signal.SIGSTOP)
    for number in signal.valid_signals() - set(own):
        if number in ignored:
            signal.signal(number, signal.SIG_IGN)
        elif signal.getsignal(number) is not signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)


def _reseed() -> None:
    """Reseed every random number generator that was seeded before the fork.

    Python reseeds `random`, and OpenSSL its own generator, after a fork; `os.urandom`, `secrets` and `uuid4` read from
    the operating system. NumPy and the authentication key of multiprocessing are left. The seed of `hash(str)` cannot
    be changed.
    """
    random.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "multiprocessing.process" in sys.modules:
        sys.modules["multiprocessing.process"].current_process().authkey = os.urandom(32)
