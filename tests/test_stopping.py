"""Ending a sandbox: its answer may be cut off by its own end, and that is not an error."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from runbook_lib.aws import sandbox_process
from runbook_lib.errors import SandboxUnavailable


@pytest.fixture
def cut_off() -> str:
    """An endpoint that announces an answer and ends before it is out; after that nothing answers there."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listener.accept()
        with listener, connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n")

    threading.Thread(target=answer, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_an_answer_that_is_cut_off_is_no_answer(cut_off: str) -> None:
    """Whoever asks gets the one error for a sandbox that is not there."""
    with pytest.raises(SandboxUnavailable, match=f"no sandbox answers at {cut_off}"):
        sandbox_process.call(cut_off, "/runbook/identity")


def test_a_sandbox_that_ends_before_its_answer_is_out_was_stopped(cut_off: str, tmp_path: Path) -> None:
    """The order arrived, so one was running; its file goes."""
    noted = {"format": 1, "url": cut_off, "sandbox_id": "one", "pid": 1}
    (tmp_path / sandbox_process.FILE_NAME).write_text(json.dumps(noted))
    assert sandbox_process.stop(tmp_path)
    assert not (tmp_path / sandbox_process.FILE_NAME).exists()
