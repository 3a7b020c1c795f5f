"""The parent process: import, listen, fork. Single-threaded, without secrets; exits when idle.

Started by `client` as `python -m runbook_kernels.server LISTENER FOLDER NAME IDLE_SECONDS PRELOAD…`; the first two
are inherited descriptors. In a forked child, `serve` returns the connection, so that no frame of the parent is on the
kernel's stack; the kernel ends with `child.leave`.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass

from runbook_kernels import protocol

_COMMAND_SECONDS = 5.0


@dataclass
class Kernel:
    """A child: its pid, its pidfd, and the connection to its requester while it is open."""

    pid: int
    descriptor: int
    connection: socket.socket | None
    ended: bool = False


class Server:
    """The listening socket, the running children, and one poll object for all of them."""

    def __init__(self, listener: socket.socket, folder: int, name: str, idle_seconds: float) -> None:
        self._listener: socket.socket | None = listener
        self._folder = folder
        self._name = name
        self._inode = os.stat(name, dir_fd=folder).st_ino
        self._idle_seconds = idle_seconds
        self._kernels: list[Kernel] = []
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)

    def serve(self) -> socket.socket | None:
        """Serve until idle or retired and return None; in a forked child, return its connection."""
        last = time.monotonic()
        while self._listener or self._kernels:
            left = None if self._kernels else max(0.0, last + self._idle_seconds - time.monotonic())
            events = dict(self._poll.poll(None if left is None else left * 1000))
            if self._listener and self._listener.fileno() in events:
                connection = self._accept(self._listener)
                if connection is not None:
                    return connection
            for kernel in list(self._kernels):
                self._track_end(kernel, events)
            if events:
                last = time.monotonic()
            elif self._listener:
                connection = self._retire()
                if connection is not None:
                    return connection
        return None

    def _accept(self, listener: socket.socket) -> socket.socket | None:
        """Execute the command of one client; return its connection in the forked child, None in the parent."""
        connection, _ = listener.accept()
        connection.settimeout(_COMMAND_SECONDS)
        try:
            pid, uid = protocol.peer(connection)
            command = connection.recv(1) if uid == os.getuid() and pid > 0 else b""
            if command == protocol.FORK:
                return self._fork(connection)
        except OSError as error:
            print(f"cannot serve a client: {error}", file=sys.stderr, flush=True)
            command = b""
        connection.close()
        return self._retire() if command == protocol.RETIRE else None

    def _fork(self, connection: socket.socket) -> socket.socket | None:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            protocol.send_line(connection, {"error": str(error)})
            connection.close()
            return None
        if pid == 0:
            os.setsid()
            self._close_inherited()
            return connection
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        kernel = Kernel(pid, os.pidfd_open(pid), connection)
        self._kernels.append(kernel)
        self._poll.register(kernel.descriptor, select.POLLIN)
        self._poll.register(connection, select.POLLRDHUP)
        protocol.send_line(connection, {"pid": pid}, [kernel.descriptor])
        return None

    def _track_end(self, kernel: Kernel, events: dict[int, int]) -> None:
        """Send the exit status of an ended kernel; reap it when the requester has closed the connection."""
        if not kernel.ended and kernel.descriptor in events:
            kernel.ended = True
            self._poll.unregister(kernel.descriptor)
            if kernel.connection:
                try:
                    protocol.send_line(kernel.connection, {"status": _status(kernel.pid)})
                except OSError:  # the requester has ended
                    self._disconnect(kernel)
        if kernel.connection and kernel.connection.fileno() in events:
            self._disconnect(kernel)
        if kernel.ended and kernel.connection is None:
            os.waitpid(kernel.pid, 0)
            os.close(kernel.descriptor)
            self._kernels.remove(kernel)

    def _disconnect(self, kernel: Kernel) -> None:
        if kernel.connection:
            self._poll.unregister(kernel.connection)
            kernel.connection.close()
            kernel.connection = None

    def _retire(self) -> socket.socket | None:
        """Serve the clients that have already connected, then stop listening; children keep running."""
        self._unlink()
        while self._listener and select.select([self._listener], [], [], 0)[0]:
            connection = self._accept(self._listener)
            if connection is not None:
                return connection
        if self._listener:
            self._poll.unregister(self._listener)
            self._listener.close()
            self._listener = None
        return None

    def _unlink(self) -> None:
        """Remove the socket, unless another parent has replaced it."""
        try:
            if os.stat(self._name, dir_fd=self._folder).st_ino == self._inode:
                os.unlink(self._name, dir_fd=self._folder)
        except FileNotFoundError:
            return

    def _close_inherited(self) -> None:
        """Close, in a child, the descriptors that belong to the parent."""
        if self._listener:
            self._listener.close()
        os.close(self._folder)
        for kernel in self._kernels:
            os.close(kernel.descriptor)
            if kernel.connection:
                kernel.connection.close()


def _status(pid: int) -> int:
    """Return the exit status of an ended child, as `subprocess` defines it, without reaping it."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    if ended is None:
        raise ChildProcessError(f"{pid} has not ended")
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def main(arguments: list[str]) -> None:
    """Serve; in a forked child, run the kernel."""
    if os.fork():
        os._exit(0)  # detach: the starter does not wait for the parent
    listener, folder, name, idle_seconds, *specs = arguments
    if not sys.flags.safe_path:
        del sys.path[0]  # the working folder of the starter
    bound = socket.socket(fileno=int(listener))
    bound.set_inheritable(False)
    os.set_inheritable(int(folder), False)
    from runbook_kernels.preload import preload

    variables = preload(specs)
    connection = Server(bound, int(folder), name, float(idle_seconds)).serve()
    del bound
    if connection is not None:
        from runbook_kernels.child import leave, run_kernel

        run_kernel(connection, variables)
        leave()


if __name__ == "__main__":
    main(sys.argv[1:])
