"""Kernels for notebooks that are executed one after another: started ahead, ended in the background.

Works with plain kernels too. Kernels use Unix sockets in a private folder (0700) in place of TCP ports: other users cannot
connect, and parallel notebooks cannot take each other's ports. Windows has no such sockets.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager

from runbook_kernels.errors import UnsafeFolder
from runbook_kernels.settings import runtime_folder

# The length of sun_path on Linux and macOS, less what jupyter_client and the kernel's number add.
_LONGEST = 80
_PREFIX = "kernels-"
_SOCKETS = sys.platform != "win32"


class Kernels:
    """A source of started kernels of one kernelspec. A second thread starts and ends them."""

    def __init__(self, kernel_name: str = "python3") -> None:
        self.kernel_name = kernel_name
        self._folder = _private_folder()
        self._numbers = count(1)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kernels")
        self._next: Future[Any] | None = None

    def __enter__(self) -> Kernels:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start_ahead(self) -> None:
        """Start the kernel that `take` returns next, with the current environment and working folder."""
        if self._next is None:
            manager = self._manager()
            self._next = self._thread.submit(self._start, manager, dict(os.environ), str(Path.cwd()))

    def take(self) -> Any:
        """Return the manager of a started kernel. Raises the error of its start, if any."""
        self.start_ahead()
        started, self._next = self._next, None
        return started.result() if started else None

    def drop(self) -> None:
        """End the kernel that was started ahead, if any."""
        started, self._next = self._next, None
        if started is not None and started.exception() is None:
            self.give_back(started.result(), now=True)

    def give_back(self, manager: Any, *, now: bool = False) -> None:
        """Shut a kernel down in the background; `now`: kill it."""
        self._thread.submit(_end, manager, now)

    def close(self) -> None:
        """End the kernel started ahead, wait for those that are shutting down, and remove the folder."""
        self.drop()
        self._thread.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _manager(self) -> Any:
        number = next(self._numbers)
        place: dict[str, Any] = {"connection_file": str(self._folder / f"{number}.json")}
        if _SOCKETS:
            place |= {"transport": "ipc", "ip": str(self._folder / str(number))}
        return KernelManager(
            kernel_name=self.kernel_name,
            client_class="jupyter_client.asynchronous.AsyncKernelClient",
            **place,
        )

    @staticmethod
    def _start(manager: Any, environment: dict[str, str], folder: str) -> Any:
        more = {"extra_arguments": ["--HistoryManager.hist_file=:memory:"]} if manager.ipykernel else {}
        manager.start_kernel(env=environment, cwd=folder, **more)
        return manager


def _private_folder() -> Path:
    """Return a new folder, mode 0700, with a path that is short enough for sockets. Raises `UnsafeFolder`."""
    bases = [runtime_folder() or Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108 - a new folder
    for base in dict.fromkeys(bases):
        prefix = f"{_PREFIX}{os.getpid()}-"
        if _SOCKETS and len(os.fsencode(base / f"{prefix}12345678")) > _LONGEST:
            continue
        try:
            _sweep(base)
            return Path(tempfile.mkdtemp(prefix=prefix, dir=base))
        except OSError:
            continue
    raise UnsafeFolder(
        f"no folder with a short path for sockets can be written ({', '.join(map(str, bases))}); set TMPDIR"
    )


def _sweep(base: Path) -> None:
    """Remove the folders left by killed processes of this user."""
    if sys.platform != "linux":
        return
    for folder in base.glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists() and folder.stat().st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)


def _end(manager: Any, now: bool) -> None:
    """Request the shutdown of a kernel, wait for its end, and remove its files.

    `KernelManager.shutdown_kernel` sends an interrupt first, which an idle kernel occasionally reports as an error.
    """
    if now or not manager.is_alive():
        manager.shutdown_kernel(now=True)
        return
    manager.request_shutdown()
    manager.finish_shutdown()
    manager.cleanup_resources()
