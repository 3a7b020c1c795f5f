"""Create, read and destroy files and folders that only their owner may access; write files atomically.

A name does not identify a file: between writing and deleting it, somebody may have put another one there. A file that
is deleted later is therefore first compared with the digest or the identity that was recorded when it was written.
"""

from __future__ import annotations

import io
import os
import stat
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from runbook_lib.errors import (
    FileNotWritable,
    PrivateFileUnsafe,
)

LIMIT = 64 * 1024


def private_folder(path: Path, *, parents: bool = False) -> Path:
    """Create the folder with mode 0700 if it does not exist, with `parents` those above it too; return it.

    Raises `FileNotWritable`.
    """
    missing = [folder for folder in path.parents if not folder.exists()] if parents else []
    try:
        for folder in (*reversed(missing), path):
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        instead = "or give --runs-dir DIR" if parents else "then run the cell or command again"
        raise FileNotWritable(
            f"cannot create {path} ({error.strerror}); free disk space or fix the permissions, {instead}"
        ) from error
    return path


def require_own_folder(path: Path) -> Path:
    """Return `path`. Raises `PrivateFileUnsafe` if it exists and belongs to, or can be written by, anybody else."""
    try:
        found = path.stat()
    except OSError:
        return path
    if found.st_uid != os.geteuid():
        raise PrivateFileUnsafe(
            f"{path} belongs to another user (uid {found.st_uid}); give the path of a folder that belongs to you"
        )
    if found.st_mode & 0o022:
        raise PrivateFileUnsafe(
            f"{path} can be written by others (mode {stat.S_IMODE(found.st_mode):04o}); run: chmod go-w {path}"
        )
    return path


def read_private(path: Path) -> bytearray:
    """Return the content of a regular file that only its owner may read; symbolic links are not followed.

    At most 64 KiB, in a buffer that the caller can overwrite. Raises `PrivateFileUnsafe`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise PrivateFileUnsafe(
            f"{path} cannot be opened ({error.strerror}); give a regular file, not a link, that you may read"
        ) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise PrivateFileUnsafe(f"{path} is not a regular file; give the path of one")
        if found.st_mode & 0o077:
            raise PrivateFileUnsafe(
                f"{path} can be read by others (mode {found.st_mode & 0o777:04o}); run: chmod 600 {path}"
            )
        content = bytearray(LIMIT)
        del content[os.readv(descriptor, [content]) :]
        return content
    finally:
        os.close(descriptor)


def write_private(path: Path, content: bytes | bytearray) -> list[int]:
    """Write a new file with mode 0600, whatever the umask; an existing file is never overwritten.

    Returns the file's identity, for `is_the_very`. Raises `FileNotWritable`.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            os.fchmod(descriptor, 0o600)
            file.write(content)
            os.fsync(descriptor)
            return _identity(os.fstat(descriptor))
    except OSError as error:
        raise FileNotWritable(
            f"cannot write {path} ({error.strerror}); give a path that does not exist, in a folder that you may write"
        ) from error


def identity_of(path: Path) -> list[int]:
    """Return the identity of an existing file, for `is_the_very`."""
    return _identity(os.lstat(path))


def _identity(found: os.stat_result) -> list[int]:
    """Return the inode number and the change time (ns): a copy has other values, and a program cannot set the change time."""
    return [found.st_ino, found.st_ctime_ns]


def is_the_very(path: Path, made: Sequence[int]) -> bool:
    """Return whether this is the file that `write_private` wrote, unchanged since, and not a copy under its name.

    A changed mode, a hard link and a renaming count as changes.
    """
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and _identity(found) == list(made)


def holds(path: Path, digest: str) -> bool:
    """Return whether this is a regular file, not a link, whose content has this SHA-256 (hex)."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode) and sha256(path.read_bytes()).hexdigest() == digest
    except OSError:
        return False


def aside(path: Path) -> Path:
    """Return the first path `<name>.kept-N` beside a file that does not exist."""
    number = 1
    while os.path.lexists(other := path.with_name(f"{path.name}.kept-{number}")):
        number += 1
    return other


def keep_aside(path: Path) -> str:
    """Rename a regular file to `<name>.kept-N` before its name is used; return the new name, or "" if none exists.

    Raises `FileNotWritable`.
    """
    try:
        if not os.path.lexists(path) or not stat.S_ISREG(os.lstat(path).st_mode):
            return ""
        other = aside(path)
        os.rename(path, other)
    except OSError as error:
        raise FileNotWritable(f"cannot rename {path} ({error.strerror}); move it away manually") from error
    return other.name


def destroy(path: Path, *, made: Sequence[int] | None = None) -> bool:
    """Overwrite a regular file with zeros and delete it; return whether that was done.

    With `made`, the identity that `write_private` returned, any other file of this name is kept.

    Overwriting reaches the blocks that the file has now. Journals, snapshots of the file system and flash memory may
    keep older blocks. Raises `FileNotWritable`.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise FileNotWritable(f"cannot destroy {path} ({error.strerror}); delete it manually") from error
    try:
        found = os.fstat(descriptor)
        if made is not None and _identity(found) != list(made):
            return False
        if stat.S_ISREG(found.st_mode):
            os.write(descriptor, bytes(found.st_size))
            os.fsync(descriptor)
        os.unlink(path)
    except OSError as error:
        raise FileNotWritable(f"cannot destroy {path} ({error.strerror}); delete it manually") from error
    finally:
        os.close(descriptor)
    return True


HALF_WRITTEN = ".writing-"


def utc_stamp(moment: datetime | None = None) -> str:
    """Return `moment` (default: now) in ISO 8601, UTC, to the second."""
    return (moment or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds")


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write `content` to `path` atomically, with mode 0600: temporary file, fsync, rename.

    Without `durable` there is no fsync: readers still see the whole file, but a power failure may lose it.
    Raises `FileNotWritable`.
    """
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{HALF_WRITTEN}{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        if not durable:
            return
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise FileNotWritable(
            f"cannot write {path} ({error.strerror or error}); free disk space or fix the permissions, then run "
            "the cell or command again"
        ) from error


def zip_files(files: Mapping[str, bytes]) -> bytes:
    """Return a zip archive of `files` (name to content); each unpacks with mode 0600."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr, entry.compress_type = 0o600 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return buffer.getvalue()
