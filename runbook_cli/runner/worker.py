"""A worker process: execute 00 to 05, or 06, of one run, and send progress and result to the pool."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing import connection
from pathlib import Path
from typing import Any

from runbook_cli.runner import notebook
from runbook_cli.runner.chain import Chain
from runbook_cli.runner.jobs import FAILED, VERIFIED, WAITING
from runbook_cli.runner.run_folder import open_run
from runbook_lib.errors import RunbookError
from runbook_lib.run.lock import HOLDER_TOKEN
from runbook_lib.run.steps import VERIFY_ENCRYPTION

LINE = "line"


def work(writer: Any, path: Path, given: dict[str, Any], token: str, until_cluster: bool) -> None:
    """Execute 00 to 05 (`until_cluster`) or 06 of the run in `path`.

    Sends `(LINE, text)` for each line of progress and finally `(state, text)` through `writer`; the state is WAITING,
    VERIFIED or FAILED. `token` lets it use the lock of the run, which the parent process holds.
    """

    def send_line(line: str) -> None:
        writer.send((LINE, line.strip()))

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    try:
        environment = notebook.kernel_environment(path.parent, **{HOLDER_TOKEN: token})
        with environment, notebook.kernels() as source:
            source.start_ahead()
            steps = Chain(path, given, send_line, source)
            if until_cluster:
                steps.execute_until_cluster(ahead=False)
                writer.send((WAITING, "its cluster is being created"))
            else:
                steps.execute_rest()
                writer.send((VERIFIED, open_run(path).record(VERIFY_ENCRYPTION)["verdict"]))
    except RunbookError as error:
        writer.send((FAILED, str(error)))
    except KeyboardInterrupt:
        writer.send((FAILED, "interrupted"))


def _end_with_parent() -> None:
    """Exit, which ends the kernels as well, when the parent process has been killed."""
    if parent := multiprocessing.parent_process():
        connection.wait([parent.sentinel])
        os._exit(1)
