"""Whether a person is working interactively with this kernel."""

from __future__ import annotations

import os


def is_attended() -> bool:
    """Return whether a person can answer prompts and use widgets: in JupyterLab yes, in papermill and nbval no.

    The environment variable RUNBOOK_ATTENDED overrides this: 1 for yes, 0 for no.
    """
    if (forced := os.environ.get("RUNBOOK_ATTENDED", "")) in ("0", "1"):
        return forced == "1"
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    kernel = getattr(get_ipython(), "kernel", None)
    return bool(getattr(kernel, "_allow_stdin", False))
