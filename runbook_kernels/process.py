"""A forked kernel for the client: the interface of `subprocess.Popen`, for a process that is not its child."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import threading

from runbook_kernels import protocol

UNKNOWN_STATUS = 1
_STATUS_SECONDS = 5.0


class ForkedProcess:
    """A kernel process, referenced by its pidfd; the parent sends its exit status through the connection.

    The parent does not reap the ended process until the connection is closed, so that its pid, which is also its
    process group id, is not reused before the status has been read.
    """

    stdin = stdout = stderr = None

    def __init__(self, pid: int, descriptor: int, connection: socket.socket, *, ready: bool = False) -> None:
        self.pid = pid
        self._ready = ready
        self.returncode: int | None = None
        self._descriptor = descriptor
        self._connection = connection
        self._lock = threading.Lock()  # one thread may wait while another kills the process

    def __del__(self) -> None:
        if self.returncode is None:
            self._close()

    def await_ready(self, seconds: float) -> None:
        """Return when the kernel is ready or has ended, at the latest after `seconds`."""
        if self._ready:
            return
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        poll.register(self._connection, select.POLLIN)
        poll.poll(seconds * 1000)

    def poll(self) -> int | None:
        """Return the exit status (negative: the signal that ended it), or None while the process runs."""
        with self._lock:
            if self.returncode is None and self._ended(0):
                self._connection.settimeout(_STATUS_SECONDS)
                try:
                    while "status" not in (line := protocol.receive_line(self._connection)[0]):
                        continue
                    status = int(line["status"])
                except (EOFError, OSError):  # the parent has ended too, so the status is lost
                    status = UNKNOWN_STATUS
                self.returncode = status
                self._close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process has ended; return the exit status. Raises `subprocess.TimeoutExpired`."""
        if self.returncode is None and not self._ended(timeout):
            raise subprocess.TimeoutExpired("kernel", timeout or 0)
        status = self.poll()
        return UNKNOWN_STATUS if status is None else status

    async def ended_within(self, seconds: float) -> None:
        """Return when the process has ended, at the latest after `seconds`."""
        if self.returncode is not None:
            return
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        watched = os.dup(self._descriptor)  # poll() may close the original meanwhile
        loop.add_reader(watched, ended.set)
        try:
            await asyncio.wait_for(ended.wait(), seconds)
        except TimeoutError:
            return
        finally:
            loop.remove_reader(watched)
            os.close(watched)

    def send_signal(self, signum: int) -> None:
        """Send a signal to the process, unless it has ended."""
        if self.poll() is None:
            try:
                signal.pidfd_send_signal(self._descriptor, signum)
            except ProcessLookupError:  # ended meanwhile
                return

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))

    def _close(self) -> None:
        os.close(self._descriptor)
        self._connection.close()
