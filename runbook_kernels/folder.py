"""The folder of the sockets: the user's own, mode 0700, held open so that nobody can put another in its place."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runbook_kernels.errors import UnsafeFolder
from runbook_kernels.settings import runtime_folder


def _path() -> Path:
    if runtime := runtime_folder():
        return runtime / "fork-kernel"
    return Path(tempfile.gettempdir()) / f"fork-kernel-{os.getuid()}"


class Folder:
    """An open folder: names in it are reached through its descriptor, whatever happens to the path."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Folder]:
        """Make the folder if need be and hold it open. Raises `UnsafeFolder` when it is not ours alone."""
        path = _path()
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise UnsafeFolder(f"cannot use {path} ({error.strerror})") from error
        try:
            status = os.fstat(descriptor)
            if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
                raise UnsafeFolder(f"{path} is not this user's alone; remove it, or set its mode to 0700")
            yield cls(descriptor)
        finally:
            os.close(descriptor)

    def address(self, name: str) -> str:
        """Return the address of the socket `name`; short enough for a socket wherever the folder lies."""
        return f"/proc/self/fd/{self.descriptor}/{name}"

    def names(self) -> list[str]:
        """Return what lies in the folder."""
        return sorted(os.listdir(self.descriptor))

    def unlink(self, name: str) -> None:
        """Remove `name` if it is there."""
        try:
            os.unlink(name, dir_fd=self.descriptor)
        except FileNotFoundError:
            return

    def create(self, name: str) -> int:
        """Return a descriptor of the new and empty file `name`."""
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, mode=0o600, dir_fd=self.descriptor)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's one lock, which guards the starting of a parent."""
        descriptor = self.create("lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
