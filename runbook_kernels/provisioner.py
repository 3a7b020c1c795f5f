"""The kernel provisioner: Jupyter's local provisioner, which forks kernels where possible."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from runbook_kernels import settings
from runbook_kernels.errors import ServerUnavailable, Unsuitable

_LAUNCHERS = ("ipykernel_launcher", "ipykernel")
_KNOWN = {"cwd", "env", "extra_arguments", "independent", "kernel_id", "stderr", "stdout"}
_POLL_SECONDS = 0.1


class ForkServerProvisioner(LocalProvisioner):
    """Fork Python kernels of this interpreter from a preloaded parent; start every other kernel as Jupyter does."""

    process: Any
    pid: Any
    pgid: Any
    cwd: Any
    _ending = False

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Fork a kernel, or launch `cmd` in a new process where forking is not possible."""
        self._ending = False
        try:
            self.process = await self._fork(cmd, kwargs)
        except Unsuitable as reason:
            self.log.debug("Plain kernel: %s", reason)
        except ServerUnavailable as reason:
            self.log.warning("Plain kernel: %s", reason)
        else:
            # The child is the leader of its session, so its process group id is its pid.
            self.pid = self.pgid = self.process.pid
            self.cwd = kwargs.get("cwd") or Path.cwd()
            return self.connection_info
        return await super().launch_kernel(cmd, **kwargs)

    async def _fork(self, cmd: list[str], kwargs: dict[str, Any]) -> Any:
        if not settings.supported():
            raise Unsuitable("kernels are forked on Linux only")
        environment = dict(kwargs.get("env") or os.environ)
        if not settings.wanted(environment):
            raise Unsuitable(f"{settings.KIND} is {environment[settings.KIND]}")
        from asyncio import to_thread

        from runbook_kernels import launch_request

        options, arguments = launch_request.split_command(cmd, _LAUNCHERS)
        if unknown := set(kwargs) - _KNOWN:
            raise Unsuitable(f"launch options that need a new process: {', '.join(sorted(unknown))}")
        return await to_thread(
            launch_request.request_kernel,
            options,
            arguments,
            environment=environment,
            folder=os.fspath(kwargs.get("cwd") or Path.cwd()),
            independent=bool(kwargs.get("independent")),
            streams=(kwargs.get("stdout"), kwargs.get("stderr")),
        )

    async def shutdown_requested(self, restart: bool = False) -> None:
        """Record that a shutdown was requested, so that `poll` waits for the end."""
        self._ending = True
        await super().shutdown_requested(restart=restart)

    async def kill(self, restart: bool = False) -> None:
        """Kill the kernel's process group."""
        self._ending = True
        await super().kill(restart=restart)

    async def poll(self) -> int | None:
        """Return the exit status or None; wait up to 0.1 s for a kernel that is shutting down."""
        if self._ending and self.process is not None and not isinstance(self.process, subprocess.Popen):
            await self.process.ended_within(_POLL_SECONDS)
        return await super().poll()
