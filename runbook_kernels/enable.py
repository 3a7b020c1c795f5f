"""For programs that execute notebooks: the environment that selects forked kernels; start and stop the parent."""

from __future__ import annotations

import os
import threading
from importlib.metadata import entry_points

from runbook_kernels.errors import ForkKernelError
from runbook_kernels.settings import PROVISIONER, supported, wanted


def environment() -> dict[str, str]:
    """Return the environment variables that make Jupyter fork its kernels; empty where forking is not possible.

    Set them before the first kernel is started: jupyter_client reads them once.
    """
    if not (supported() and wanted(os.environ)):
        return {}
    if not entry_points(group="jupyter_client.kernel_provisioners", name=PROVISIONER):
        return {}
    return {"JUPYTER_DEFAULT_PROVISIONER_NAME": PROVISIONER}


def start() -> threading.Thread | None:
    """Start the parent in the background, so that it has imported before the first kernel is requested.

    Returns the thread that starts it, or None when kernels will be plain. A parent that does not start is not an error:
    the kernel will be plain.
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
    """Tell this user's parents to exit after their last kernel. Otherwise they exit when idle."""
    if not supported():
        return
    from runbook_kernels import client

    client.retire()
