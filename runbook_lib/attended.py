"""Whether a person sits at this kernel."""

from __future__ import annotations

import os


def is_attended() -> bool:
    """Say whether a person sits at this kernel and can use widgets: JupyterLab yes, papermill and nbval no.

    RUNBOOK_ATTENDED=1 or 0 decides where it is set.
    """
    if (told := os.environ.get("RUNBOOK_ATTENDED", "")) in ("0", "1"):
        return told == "1"
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    kernel = getattr(get_ipython(), "kernel", None)
    return bool(getattr(kernel, "_allow_stdin", False))
