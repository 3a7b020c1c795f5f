"""What can keep a kernel from being forked; each ends in a plain kernel, none reaches the notebook."""


class ForkKernelError(Exception):
    """Root of this package's errors; never raised itself."""


class Unsuitable(ForkKernelError):
    """The kernel asked for is not one that the fork server makes: other system, other interpreter, opted out."""


class ServerUnavailable(ForkKernelError):
    """The fork server could not be reached, started or trusted, or did not answer."""


class UnsafeFolder(ServerUnavailable):
    """The folder of the sockets cannot be used, or others than the user have a hand in it."""
