"""The folder of the sockets: owned by the user, mode 0700, and held open so that it cannot be replaced."""

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
    """An open folder: its files are accessed through its descriptor, even if the path is renamed or replaced."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Folder]:
        """Create the folder if missing and hold it open. Raises `UnsafeFolder` if others may access it."""
        path = _path()
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise UnsafeFolder(f"cannot use {path} ({error.strerror})") from error
        try:
            status = os.fstat(descriptor)
            if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
                raise UnsafeFolder(f"{path} must belong to this user with mode 0700; remove it, or run: chmod 0700")
            yield cls(descriptor)
        finally:
            os.close(descriptor)

    def address(self, name: str) -> str:
        """Return the address of the socket `name`, which is short enough wherever the folder is."""
        return f"/proc/self/fd/{self.descriptor}/{name}"

    def names(self) -> list[str]:
        """Return the file names in the folder, sorted."""
        return sorted(os.listdir(self.descriptor))

    def unlink(self, name: str) -> None:
        """Remove `name` if it exists."""
        try:
            os.unlink(name, dir_fd=self.descriptor)
        except FileNotFoundError:
            return

    def create(self, name: str) -> int:
        """Create or empty the file `name`; return its descriptor."""
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, mode=0o600, dir_fd=self.descriptor)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock, which serializes the start of a parent."""
        descriptor = self.create("lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
