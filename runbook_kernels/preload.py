"""What the parent does before the first fork: import, call what it was told to call, and settle."""

from __future__ import annotations

import gc
import os
import threading
from importlib import import_module

# What a kernel imports anyway before it answers for the first time.
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
    """Import the kernel and what `specs` name (`module` or `module:function`), then make the memory shareable.

    Returns the environment variables that were set meanwhile, as debugpy does: a kernel has to find them too.
    Whatever an import raises ends the parent: kernels are then plain, and show the error where it belongs.
    """
    gc.disable()
    before = dict(os.environ)

    import ipykernel.kernelapp  # noqa: F401 - there can be no kernel without these

    import runbook_kernels.child  # noqa: F401

    for name in KERNEL_MODULES:
        try:
            import_module(name)
        except ImportError:  # this version has none, or does without
            continue
    for spec in specs:
        name, _, function = spec.partition(":")
        module = import_module(name)
        if function:
            getattr(module, function)()
    _stop_native_threads()
    if threading.active_count() != 1:
        raise SystemExit(f"a fork would lose threads: {', '.join(thread.name for thread in threading.enumerate())}")
    gc.freeze()  # without collecting first: what a child then put into the gaps would copy pages that are shared
    return {name: value for name, value in os.environ.items() if before.get(name) != value}


def _stop_native_threads() -> None:
    """Fork once for nothing: OpenBLAS ends its idle threads before a fork, and starts new ones when they are needed."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
