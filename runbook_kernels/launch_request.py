"""Turn Jupyter's launch command into a request to the fork server, or reject what a forked kernel cannot honour."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

from runbook_kernels import client
from runbook_kernels.errors import Unsuitable
from runbook_kernels.identity import ServerSpec
from runbook_kernels.process import ForkedProcess
from runbook_kernels.protocol import Request

# Python ignores the first two itself, and `subprocess` restores them; a kernel sets the last one for each cell.
_OF_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT)


def split_command(cmd: list[str], launchers: tuple[str, ...]) -> tuple[tuple[str, ...], list[str]]:
    """Return the interpreter options and the kernel's arguments of a launch command.

    Raises `Unsuitable` for any command but `python [-X…] -m ipykernel_launcher …` with the current interpreter.
    """
    if "-m" not in cmd[1:-1]:
        raise Unsuitable("the kernel is not started as a Python module")
    at = cmd.index("-m", 1)
    options, module, arguments = tuple(cmd[1:at]), cmd[at + 1], cmd[at + 2 :]
    if module not in launchers:
        raise Unsuitable(f"the kernel is {module}, not ipykernel")
    if not _same_interpreter(cmd[0]):
        raise Unsuitable(f"the kernel's interpreter is {cmd[0]}, not {sys.executable}")
    if not all(re.fullmatch(r"-X\w.*", option) for option in options):
        raise Unsuitable(f"the interpreter options {' '.join(options)} need a new process")
    return options, arguments


def _same_interpreter(executable: str) -> bool:
    """Return whether both are the same file in the same folder. Virtual environments may link to one interpreter."""
    ours, theirs = Path(sys.executable).absolute(), Path(executable).expanduser().absolute()
    return ours == theirs or (ours.parent == theirs.parent and ours.resolve() == theirs.resolve())


def request_kernel(
    options: tuple[str, ...],
    arguments: list[str],
    *,
    environment: dict[str, str],
    folder: str,
    independent: bool,
    streams: tuple[Any, Any],
) -> ForkedProcess:
    """Return a kernel forked with this environment, working folder and output streams.

    `independent`: the kernel outlives this process. Raises `Unsuitable` or `ServerUnavailable`.
    """
    if not Path(folder).is_dir():
        raise Unsuitable(f"{folder} is not a folder")  # the plain launch reports it
    if os.getuid() != os.geteuid() or os.getgid() != os.getegid():
        raise Unsuitable("this process runs with the rights of another user")
    environment = environment if independent else {**environment, "JPY_PARENT_PID": str(os.getpid())}
    request = Request(arguments, folder, environment, umask=_umask(), ignored=_ignored(), independent=independent)
    opened: list[int] = []
    try:
        output = _descriptor(streams[0], 1, opened)
        error = _descriptor(streams[1], 2, opened)
        return client.launch(ServerSpec.of(environment, options), request, (output, error))
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _descriptor(stream: Any, number: int, opened: list[int]) -> int:
    """Return the descriptor of a stream as `subprocess.Popen` takes it: None, a descriptor, a file or DEVNULL."""
    if stream is None:
        stream = number
    elif hasattr(stream, "fileno"):
        stream = stream.fileno()
    if stream >= 0:
        try:
            os.fstat(stream)
        except OSError:  # closed in this process
            stream = DEVNULL
        else:
            return int(stream)
    if stream != DEVNULL:
        raise Unsuitable("the kernel's output goes to a pipe of Popen")
    opened.append(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
    return opened[-1]


def _umask() -> int:
    """Return the umask of this process. `os.umask` would change it for other threads as well."""
    return int(_status("Umask"), 8)


def _ignored() -> list[int]:
    """Return the signals that this process ignores, as a new process would inherit them: SIGHUP after nohup, for example."""
    mask = int(_status("SigIgn"), 16)
    return [number for number in range(1, signal.NSIG) if mask >> (number - 1) & 1 and number not in _OF_PYTHON]


def _status(name: str) -> str:
    found = re.search(rf"^{name}:\s*([0-9a-f]+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise Unsuitable(f"/proc/self/status shows no {name}")
    return found.group(1)
