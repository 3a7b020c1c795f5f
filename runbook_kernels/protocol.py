"""The protocol of the socket: one command byte for the parent, a request for the child, JSON lines in return.

The parent reads only the command byte. The forked child reads the request, which contains the environment, from the
same connection, so that no secret of a requester is ever in the memory of the parent.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from dataclasses import asdict, dataclass
from typing import Any

FORK = b"F"
RETIRE = b"R"

_LENGTH = struct.Struct("!I")
_CREDENTIALS = struct.Struct("3i")
_STREAMS = 2


@dataclass(frozen=True)
class Request:
    """A kernel to start: arguments, working folder, environment, umask, ignored signals, and whether it outlives the client."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]
    umask: int
    ignored: list[int]
    independent: bool


def peer(connection: socket.socket) -> tuple[int, int]:
    """Return process id and user id of the other side, as reported by the operating system (SO_PEERCRED)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(credentials)
    return pid, uid


def send_request(connection: socket.socket, request: Request, streams: tuple[int, int]) -> None:
    """Send `request` with the descriptors for its standard output and error."""
    body = json.dumps(asdict(request)).encode()
    connection.sendall(FORK)
    socket.send_fds(connection, [_LENGTH.pack(len(body))], list(streams))
    connection.sendall(body)


def receive_request(connection: socket.socket) -> tuple[Request, list[int]]:
    """Return a request and its two descriptors. Raises `EOFError` when the requester has closed the connection."""
    head, streams, _, _ = socket.recv_fds(connection, _LENGTH.size, _STREAMS)
    if len(head) < _LENGTH.size or len(streams) < _STREAMS:
        raise EOFError("the requester has closed the connection")
    left = _LENGTH.unpack(head)[0]
    parts: list[bytes] = []
    while left:
        part = connection.recv(min(left, 65536))
        if not part:
            raise EOFError("the requester has closed the connection")
        parts.append(part)
        left -= len(part)
    return Request(**json.loads(b"".join(parts))), streams


def send_line(connection: socket.socket, line: dict[str, Any], descriptors: list[int] | None = None) -> None:
    """Send one JSON line from the parent or the kernel, with descriptors."""
    socket.send_fds(connection, [json.dumps(line).encode() + b"\n"], descriptors or [])


def receive_line(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return one JSON line and its descriptors. Raises `EOFError` when the connection is closed."""
    line, descriptors = b"", []
    while not line.endswith(b"\n"):
        part, passed, _, _ = socket.recv_fds(connection, 1, 1)
        descriptors += passed
        if not part:
            for descriptor in descriptors:
                os.close(descriptor)
            raise EOFError("the fork server has closed the connection")
        line += part
    return json.loads(line), descriptors
