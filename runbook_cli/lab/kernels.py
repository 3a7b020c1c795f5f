"""The kernels of `runbook lab`: they know its current run and target, and explain cells that were run out of order.

Only kernels get these variables. A terminal in JupyterLab, and what is started from it, knows of no current run.
"""

from __future__ import annotations

import os
from typing import Any

from jupyter_server.services.kernels.kernelmanager import ServerKernelManager
from traitlets import Unicode

from runbook_lib.run.current import TARGET_VARIABLE, VARIABLE

_EXTENSION = "runbook_lib.pages.cells"


class LabKernel(ServerKernelManager):
    """Starts one kernel, with the variables and the IPython extension of the lab."""

    current_run = Unicode(help="Path of the file that names the current run.").tag(config=True)
    lab_target = Unicode(help="Target of the lab: sandbox or aws.").tag(config=True)

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        """Return the command of the kernel, with the extension."""
        command: list[str] = super().format_kernel_cmd(extra_arguments)
        return [*command, f"--IPKernelApp.extra_extensions={_EXTENSION}"]

    async def _async_pre_start_kernel(self, **options: Any) -> Any:
        environment = {**(options.pop("env", None) or os.environ), VARIABLE: self.current_run}
        environment[TARGET_VARIABLE] = self.lab_target
        return await super()._async_pre_start_kernel(**options, env=environment)
