"""Files that hold a secret, and folders: made, read and destroyed so that only their owner has them. Knows no secret.

A name proves nothing: between making a file and deleting it somebody may have put another one there. Whatever is
deleted later than it was made is held against the digest or the identity that was recorded when it was made.
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
    """Return the folder, made with mode 0700 unless it is there; with `parents` those above it too.

    Raises `FileNotWritable`.
    """
    missing = [folder for folder in path.parents if not folder.exists()] if parents else []
    try:
        for folder in (*reversed(missing), path):
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        instead = "or give --runs-dir DIR" if parents else "then run this again"
        raise FileNotWritable(
            f"cannot make {path} ({error.strerror}); make room or mend the permissions, {instead}"
        ) from error
    return path


def read_private(path: Path) -> bytearray:
    """Return the content of a regular file that only its owner may read; a symbolic link is not followed.

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
            raise PrivateFileUnsafe(f"{path} is no regular file; give the path of one")
        if found.st_mode & 0o077:
            raise PrivateFileUnsafe(
                f"{path} can be read by others (mode {found.st_mode & 0o777:04o}); chmod 600 {path}"
            )
        content = bytearray(LIMIT)
        del content[os.readv(descriptor, [content]) :]
        return content
    finally:
        os.close(descriptor)


def write_private(path: Path, content: bytes | bytearray) -> list[int]:
    """Write a new file of mode 0600, whatever the umask; what lies there already is not overwritten.

    Return its identity, for `is_the_very`. Raises `FileNotWritable`.
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
            f"cannot write {path} ({error.strerror}); give a place that is free and that you may write"
        ) from error


def _identity(found: os.stat_result) -> list[int]:
    """Return inode number and time of the last change (ns): no copy has both, and nobody can set the second."""
    return [found.st_ino, found.st_ctime_ns]


def is_the_very(path: Path, made: Sequence[int]) -> bool:
    """Return whether this is the file that `write_private` made, untouched since: no copy of it, put back under its name.

    A changed mode, a hard link or a renaming counts as a change.
    """
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and _identity(found) == list(made)


def holds(path: Path, digest: str) -> bool:
    """Return whether this is a regular file, and no link, whose content has this SHA-256."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode) and sha256(path.read_bytes()).hexdigest() == digest
    except OSError:
        return False


def aside(path: Path) -> Path:
    """Return the first free name `<name>.kept-N` beside a file."""
    number = 1
    while os.path.lexists(other := path.with_name(f"{path.name}.kept-{number}")):
        number += 1
    return other


def keep_aside(path: Path) -> str:
    """Rename a regular file that is about to be overwritten to `<name>.kept-N`; return that name, or "" for none there.

    Raises `FileNotWritable`.
    """
    try:
        if not os.path.lexists(path) or not stat.S_ISREG(os.lstat(path).st_mode):
            return ""
        other = aside(path)
        os.rename(path, other)
    except OSError as error:
        raise FileNotWritable(f"cannot rename {path} ({error.strerror}); move it away yourself") from error
    return other.name


def destroy(path: Path, *, made: Sequence[int] | None = None) -> bool:
    """Overwrite a regular file with zeros and remove it; return whether that was done.

    With `made`, the identity that `write_private` returned, any other file under this name is kept.

    Overwriting reaches the file's present blocks. Journals, copies of the file system and flash memory may keep
    older ones: no program can promise more. Raises `FileNotWritable`.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise FileNotWritable(f"cannot destroy {path} ({error.strerror}); remove it yourself") from error
    try:
        found = os.fstat(descriptor)
        if made is not None and _identity(found) != list(made):
            return False
        if stat.S_ISREG(found.st_mode):
            os.write(descriptor, bytes(found.st_size))
            os.fsync(descriptor)
        os.unlink(path)
    except OSError as error:
        raise FileNotWritable(f"cannot destroy {path} ({error.strerror}); remove it yourself") from error
    finally:
        os.close(descriptor)
    return True


HALF_WRITTEN = ".writing-"


def utc_stamp(moment: datetime | None = None) -> str:
    """Return `moment` (default: now) in ISO 8601, UTC, to the second."""
    return (moment or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds")


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write `content` to `path` with mode 0600, whole or not at all: temporary file, flush, rename.

    Without `durable` it is whole for whoever reads it, but may be lost with the power. Raises `FileNotWritable`, naming
    the path and the system's reason.
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
            f"cannot write {path} ({error.strerror or error}); make room or mend the permissions, then run the step again"
        ) from error


def zip_files(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of `files`; each has mode 0600 when it is unpacked."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr, entry.compress_type = 0o600 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return buffer.getvalue()
