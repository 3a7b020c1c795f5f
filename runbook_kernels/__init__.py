"""Jupyter kernels forked from a preloaded parent process: a new process for every notebook, ready in less time.

The kernel provisioner `fork-server` replaces Jupyter's own when `JUPYTER_DEFAULT_PROVISIONER_NAME` names it;
papermill, nbclient, nbval and JupyterLab then use it unchanged. Where it cannot fork (not Linux, not ipykernel, a
parent that does not start), it starts a plain kernel. The modules that the parent imports are configured from outside:
this package knows no notebook.
"""

from __future__ import annotations

from runbook_kernels.enable import environment, start, stop
from runbook_kernels.settings import PROVISIONER, supported

__all__ = ["PROVISIONER", "environment", "start", "stop", "supported"]
