"""The client's hold on a forked kernel: what `subprocess.Popen` offers, for a process that is another's child."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess

from runbook_lib.fork_kernel import protocol

UNKNOWN_STATUS = 1


class ForkedProcess:
    """A kernel process, held by its process descriptor; the connection will tell its exit status.

    The parent keeps the ended process unreaped until the connection is closed, so that its number, which is also
    its group's, is not given to another process before the status was read.
    """

    stdin = stdout = stderr = None

    def __init__(self, pid: int, descriptor: int, connection: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._descriptor = descriptor
        self._connection = connection

    def __del__(self) -> None:
        if self.returncode is None:
            self._close()

    def poll(self) -> int | None:
        """Return the exit status (negative: the signal that ended it), or None while it runs."""
        if self.returncode is None and self._ended(0):
            try:
                self._connection.settimeout(5)
                line, _ = protocol.receive_line(self._connection)
                self.returncode = int(line["status"])
            except (EOFError, OSError):  # the parent has gone too, and the status with it
                self.returncode = UNKNOWN_STATUS
            self._close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the exit status. Raises `subprocess.TimeoutExpired`."""
        if self.returncode is None and not self._ended(timeout):
            raise subprocess.TimeoutExpired("kernel", timeout or 0)
        status = self.poll()
        return UNKNOWN_STATUS if status is None else status

    async def ended_within(self, seconds: float) -> None:
        """Return as soon as the process has ended, and at the latest after `seconds`."""
        if self.returncode is not None:
            return
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        watched = os.dup(self._descriptor)  # poll() may close the other meanwhile
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
