"""The settings: environment variables and entry points. Can be imported on every operating system.

`RUNBOOK_KERNEL=plain` disables forked kernels. `RUNBOOK_KERNEL_PRELOAD` lists what the parent imports
(comma-separated); the default is the entry-point group `fork_kernel.preload` of the installed distributions. An item
is `module`, or `module:function`, which is called as well. `RUNBOOK_KERNEL_IDLE_SECONDS` is the time after which a
parent without kernels exits.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path

from runbook_kernels.errors import Unsuitable

PROVISIONER = "fork-server"
KIND = "RUNBOOK_KERNEL"
PRELOAD = "RUNBOOK_KERNEL_PRELOAD"
PRELOAD_GROUP = "fork_kernel.preload"
IDLE = "RUNBOOK_KERNEL_IDLE_SECONDS"
DEFAULT_IDLE_SECONDS = 300.0


def supported() -> bool:
    """Return whether this system can fork kernels: Linux with pidfd support."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open") and bool(sys.executable)


def runtime_folder() -> Path | None:
    """Return the user's runtime folder (XDG_RUNTIME_DIR), or None when it is unset or not writable."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path(runtime) if runtime and Path(runtime).is_dir() and os.access(runtime, os.W_OK) else None


def wanted(environment: Mapping[str, str]) -> bool:
    """Return whether `environment` allows forked kernels."""
    return environment.get(KIND, "") != "plain"


def preload(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return what the parent imports, each as `module` or `module:function`."""
    listed = environment.get(PRELOAD)
    if listed is not None:
        return tuple(name.strip() for name in listed.split(",") if name.strip())
    return tuple(sorted({entry.value for entry in entry_points(group=PRELOAD_GROUP)}))


def idle_seconds(environment: Mapping[str, str]) -> float:
    """Return the seconds after which an idle parent exits. Raises `Unsuitable` when the setting is not a number."""
    given = environment.get(IDLE, "")
    try:
        return float(given) if given else DEFAULT_IDLE_SECONDS
    except ValueError as error:
        raise Unsuitable(f"{IDLE} is {given!r}; give a number of seconds") from error
