"""Whether a person is working interactively with this kernel."""

from __future__ import annotations

import os
from collections.abc import Sequence

_STYLE = (
    "<style>.runbook-lost{display:none}"
    ".jupyter-widgets-disconnected .runbook-lost{display:inline}"
    ".jupyter-widgets-disconnected .runbook-live{display:none}</style>"
)
_LOST = (
    "<b style='color:#dc3e46'>✗ Not connected: the kernel of this page was restarted.</b> Run the cells again from the top "
    "(menu Run > Run All Above Selected Cell); values that were read into the run come back."
)


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


def while_connected(words: Sequence[str]) -> str:
    """Return the HTML of an HTML widget that shows `words` while its kernel lives, and afterwards what to do.

    JupyterLab gives each view of a widget without a kernel the class `jupyter-widgets-disconnected`; a style sheet inside
    the widget is all that can react to it, since no Python is left to do so.
    """
    return f"{_STYLE}<span class='runbook-live'>{' '.join(words)}</span><span class='runbook-lost'>{_LOST}</span>"
