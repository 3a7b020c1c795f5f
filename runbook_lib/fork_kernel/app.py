"""ipykernel's application, ending in the right order; imports ipykernel, and so belongs to the parent and its children."""

from __future__ import annotations

from ipykernel.kernelapp import IPKernelApp

_JOIN_SECONDS = 1.0


class ForkedKernelApp(IPKernelApp):
    """The kernel application, whose control thread ends before the thread that it writes through.

    ipykernel 7.4 stops the writing thread at exit without waiting. In about one run of ten the control thread is then
    still flushing the streams after the shutdown request, waits ten seconds for nobody, and the client sends
    SIGTERM after two and a half.
    """

    def start(self) -> None:
        """Serve until told to shut down, and let the answer to that be sent."""
        super().start()  # type: ignore[no-untyped-call]
        if self.control_thread and self.control_thread.is_alive():
            self.control_thread.stop()
            self.control_thread.join(_JOIN_SECONDS)
