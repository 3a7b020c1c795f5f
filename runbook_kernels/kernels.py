"""Kernels for notebooks that are executed one after the other: started ahead, ended in the background.

Works with plain kernels too. They are reached through sockets in a folder of their own (0700), where the system
has such sockets, in place of TCP ports: nobody else can connect, and notebooks side by side cannot meet.
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

from runbook_kernels.settings import runtime_folder

# What sun_path holds on Linux and macOS, less what jupyter_client and a kernel's number add.
_LONGEST = 80
_PREFIX = "kernels-"


class Kernels:
    """Hands out started kernels of one kernelspec; all work on them but their use is done in one other thread."""

    def __init__(self, kernel_name: str = "python3") -> None:
        self.kernel_name = kernel_name
        base = runtime_folder() or Path(tempfile.gettempdir())
        _sweep(base)
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=base))  # mode 0700
        self._numbers = count(1)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kernels")
        self._next: Future[Any] | None = None

    def __enter__(self) -> Kernels:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start_ahead(self) -> None:
        """Start the kernel that `take` will return next, with the environment and folder of this moment."""
        if self._next is None:
            manager = self._manager()
            self._next = self._thread.submit(self._start, manager, dict(os.environ), str(Path.cwd()))

    def take(self) -> Any:
        """Return the manager of a started kernel. Raises what starting it raised."""
        self.start_ahead()
        started, self._next = self._next, None
        return started.result() if started else None

    def drop(self) -> None:
        """End the kernel that was started ahead, if there is one."""
        started, self._next = self._next, None
        if started is not None and started.exception() is None:
            self.give_back(started.result(), now=True)

    def give_back(self, manager: Any, *, now: bool = False) -> None:
        """End a kernel in the background; with `now` kill it."""
        self._thread.submit(_end, manager, now)

    def close(self) -> None:
        """End the kernel that nobody took, wait for those that are ending, and remove the folder."""
        self.drop()
        self._thread.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _manager(self) -> Any:
        number = next(self._numbers)
        place: dict[str, Any] = {"connection_file": str(self._folder / f"{number}.json")}
        if sys.platform != "win32" and len(str(self._folder)) <= _LONGEST:
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


def _sweep(base: Path) -> None:
    """Remove the folders of this user's processes that were killed."""
    if sys.platform != "linux":
        return
    for folder in base.glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists() and folder.stat().st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)


def _end(manager: Any, now: bool) -> None:
    """Ask the kernel to end, see that it does, and remove its files.

    `KernelManager.shutdown_kernel` interrupts first, which an idle kernel reports as an error now and then.
    """
    if now or not manager.is_alive():
        manager.shutdown_kernel(now=True)
        return
    manager.request_shutdown()
    manager.finish_shutdown()
    manager.cleanup_resources()
