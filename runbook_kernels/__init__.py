"""Jupyter kernels that are forked from a warm parent process: fresh for every notebook, ready in a fraction of the time.

A kernel provisioner named `fork-server` stands in for Jupyter's own when `JUPYTER_DEFAULT_PROVISIONER_NAME` names
it, so that papermill, nbclient, nbval and JupyterLab use it unchanged. Where it cannot do its work (another system
than Linux, another kernel, a parent that does not start) it starts the plain kernel. It knows no notebook, and
what the parent imports is told from outside.
"""

from __future__ import annotations

from runbook_kernels.enable import environment, start, stop
from runbook_kernels.settings import PROVISIONER, supported

__all__ = ["PROVISIONER", "environment", "start", "stop", "supported"]
