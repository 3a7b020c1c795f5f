"""Files that hold a secret: for their owner only, whatever the umask, never through a link, and overwritten at the end."""

from __future__ import annotations

import os
import stat

import pytest
from openssl import put

from runbook_lib.errors import FileNotWritable, PrivateFileUnsafe
from runbook_lib.files import LIMIT, destroy, read_private, write_private

SECRET = b"\x01secret\xff"


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
def test_what_is_written_is_0600_whatever_the_umask(tmp_path, mask):
    """Even where the umask would leave it to everybody, or to nobody."""
    before = os.umask(mask)
    try:
        write_private(tmp_path / "f", SECRET)
    finally:
        os.umask(before)
    assert (0o600, SECRET) == (stat.S_IMODE((tmp_path / "f").stat().st_mode), (tmp_path / "f").read_bytes())


def test_what_lies_there_already_is_not_overwritten(tmp_path):
    """A file, or a link to one: both stay as they are."""
    put(tmp_path / "there", b"before")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("there", "link", "dangling"):
        with pytest.raises(FileNotWritable, match="give a path that does not exist"):
            write_private(tmp_path / name, SECRET)
    assert b"before" == (tmp_path / "there").read_bytes()
    assert not (tmp_path / "nowhere").exists()


def test_what_is_destroyed_is_overwritten_first(tmp_path):
    """Seen through a second name of the same file: zeros, not the secret."""
    put(tmp_path / "f", SECRET)
    os.link(tmp_path / "f", tmp_path / "same")
    assert destroy(tmp_path / "f") is True
    assert not (tmp_path / "f").exists()
    assert bytes(len(SECRET)) == (tmp_path / "same").read_bytes()
    assert destroy(tmp_path / "f") is False


def test_destroying_does_not_follow_a_link(tmp_path):
    """What it points to is somebody else's."""
    put(tmp_path / "precious", b"untouched")
    (tmp_path / "f").symlink_to(tmp_path / "precious")
    with pytest.raises(FileNotWritable, match="delete it manually"):
        destroy(tmp_path / "f")
    assert b"untouched" == (tmp_path / "precious").read_bytes()


def test_reading_gives_a_buffer_that_can_be_overwritten_and_no_more_than_the_limit(tmp_path):
    """A bytearray, 64 KiB at most: a wrong path does not fill the memory."""
    content = read_private(put(tmp_path / "f", SECRET))
    assert (bytearray, SECRET) == (type(content), bytes(content))
    assert LIMIT == len(read_private(put(tmp_path / "big", bytes(LIMIT + 1))))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_what_others_may_read_is_refused(tmp_path, mode):
    """With the command that mends it; the twin of 0600 and 0400."""
    with pytest.raises(PrivateFileUnsafe, match="chmod 600"):
        read_private(put(tmp_path / "f", SECRET, mode))
    for fine in (0o600, 0o400):
        assert SECRET == bytes(read_private(put(tmp_path / f"fine-{fine}", SECRET, fine)))


def test_a_link_is_not_followed(tmp_path):
    """Not even to a file of one's own."""
    put(tmp_path / "f", SECRET)
    (tmp_path / "link").symlink_to(tmp_path / "f")
    with pytest.raises(PrivateFileUnsafe, match="not a link"):
        read_private(tmp_path / "link")
