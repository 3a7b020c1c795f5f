"""The calls for a program that executes notebooks: which environment chooses forked kernels, starting early, stopping."""

from __future__ import annotations

import os
import threading
from importlib.metadata import entry_points

from runbook_kernels.errors import ForkKernelError
from runbook_kernels.settings import PROVISIONER, supported, wanted


def environment() -> dict[str, str]:
    """Return the environment variables that make Jupyter fork its kernels; empty where that cannot be.

    Set them before the first kernel is started: jupyter_client reads them once.
    """
    if not (supported() and wanted(os.environ)):
        return {}
    if not entry_points(group="jupyter_client.kernel_provisioners", name=PROVISIONER):
        return {}
    return {"JUPYTER_DEFAULT_PROVISIONER_NAME": PROVISIONER}


def start() -> threading.Thread | None:
    """Start the parent in the background, so that it is warm when the first kernel is asked for.

    Returns the thread that does so, or None when kernels will be plain. A parent that does not start is not an
    error here: the kernel will be plain.
    """
    if not environment():
        return None
    from runbook_kernels import client
    from runbook_kernels.identity import ServerSpec

    given = dict(os.environ)

    def work() -> None:
        try:
            client.start(ServerSpec.of(given))
        except ForkKernelError:
            return

    thread = threading.Thread(target=work, name="fork-kernel-start", daemon=True)
    thread.start()
    return thread


def stop() -> None:
    """Let this user's parents end, each when its last kernel has; without this they end when idle."""
    if not supported():
        return
    from runbook_kernels import client

    client.retire()
