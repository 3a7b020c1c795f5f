"""The reasons why a kernel is not forked. Each leads to a plain kernel; none reaches the notebook."""


class ForkKernelError(Exception):
    """Root of this package's errors; never raised itself."""


class Unsuitable(ForkKernelError):
    """Forked kernels do not support this request: another system or interpreter, or `RUNBOOK_KERNEL=plain`."""


class ServerUnavailable(ForkKernelError):
    """The fork server could not be reached, started or trusted, or did not respond."""


class UnsafeFolder(ServerUnavailable):
    """The folder of the sockets cannot be used, or other users have access to it."""
