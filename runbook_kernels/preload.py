"""Prepare the parent before the first fork: import modules, call functions, make the memory shareable."""

from __future__ import annotations

import gc
import os
import threading
from importlib import import_module

# Modules that every kernel imports before its first reply.
KERNEL_MODULES = (
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.logger",
    "IPython.core.magics",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "comm",
    "debugpy",
    "faulthandler",
    "ipykernel.debugger",
    "matplotlib_inline.config",
    "pdb",
    "sqlite3",
    "tornado.platform.asyncio",
)


def preload(specs: list[str]) -> dict[str, str]:
    """Import the kernel and `specs` (`module`, or `module:function`, which is called), then freeze the objects.

    Returns the environment variables that imports set, such as those of debugpy: kernels need them too. An error in
    an import ends the parent; the kernels are then plain, and show the error in the notebook.
    """
    gc.disable()
    before = dict(os.environ)

    import ipykernel.kernelapp  # noqa: F401 - every kernel needs these

    import runbook_kernels.child  # noqa: F401

    for name in KERNEL_MODULES:
        try:
            import_module(name)
        except ImportError:  # missing in this version
            continue
    for spec in specs:
        name, _, function = spec.partition(":")
        module = import_module(name)
        if function:
            getattr(module, function)()
    _stop_native_threads()
    if threading.active_count() != 1:
        raise SystemExit(f"a fork would lose threads: {', '.join(thread.name for thread in threading.enumerate())}")
    gc.freeze()  # without a collection before: freed gaps, reused by a child, would copy shared pages
    return {name: value for name, value in os.environ.items() if before.get(name) != value}


def _stop_native_threads() -> None:
    """Fork once and exit: OpenBLAS ends its idle threads before a fork, and restarts them on demand."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
