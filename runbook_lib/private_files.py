"""Files that hold a secret, and folders: made, read and destroyed so that only their owner has them. Knows no secret."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from runbook_lib.errors import KeyMaterialFileUnsafe, RunNotWritable

LIMIT = 64 * 1024


def private_folder(path: Path, *, parents: bool = False) -> Path:
    """Return the folder, made with mode 0700 unless it is there; with `parents` those above it too.

    Raises `RunNotWritable`.
    """
    missing = [folder for folder in path.parents if not folder.exists()] if parents else []
    try:
        for folder in (*reversed(missing), path):
            folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        instead = "or give --runs-dir DIR" if parents else "then run this again"
        raise RunNotWritable(
            f"cannot make {path} ({error.strerror}); make room or mend the permissions, {instead}"
        ) from error
    return path


def read_private(path: Path) -> bytearray:
    """Return the content of a regular file that only its owner may read; a symbolic link is not followed.

    At most 64 KiB, in a buffer that the caller can overwrite. Raises `KeyMaterialFileUnsafe`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise KeyMaterialFileUnsafe(
            f"{path} cannot be opened ({error.strerror}); give a regular file, not a link, that you may read"
        ) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise KeyMaterialFileUnsafe(f"{path} is no regular file; give the path of one")
        if found.st_mode & 0o077:
            raise KeyMaterialFileUnsafe(
                f"{path} can be read by others (mode {found.st_mode & 0o777:04o}); chmod 600 {path}"
            )
        content = bytearray(LIMIT)
        del content[os.readv(descriptor, [content]) :]
        return content
    finally:
        os.close(descriptor)


def write_private(path: Path, content: bytes | bytearray) -> None:
    """Write a new file of mode 0600, whatever the umask; what lies there already is not overwritten.

    Raises `RunNotWritable`.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            os.fchmod(descriptor, 0o600)
            file.write(content)
            os.fsync(descriptor)
    except OSError as error:
        raise RunNotWritable(
            f"cannot write {path} ({error.strerror}); give a place that is free and that you may write"
        ) from error


def destroy(path: Path) -> bool:
    """Overwrite a regular file with zeros and remove it; say whether it was there.

    Overwriting reaches the file's present blocks. Journals, copies of the file system and flash memory may keep
    older ones: no program can promise more. Raises `RunNotWritable`.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RunNotWritable(f"cannot destroy {path} ({error.strerror}); remove it yourself") from error
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            os.write(descriptor, bytes(found.st_size))
            os.fsync(descriptor)
        os.unlink(path)
    except OSError as error:
        raise RunNotWritable(f"cannot destroy {path} ({error.strerror}); remove it yourself") from error
    finally:
        os.close(descriptor)
    return True
