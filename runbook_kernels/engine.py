"""A papermill engine with less overhead per notebook: `papermill --engine fork-server …`, or with `Kernels`.

The executed notebooks equal those of papermill's own engine. The kernel may have been started ahead, execution begins
as soon as it is ready, and it ends in the background. A notebook is saved atomically before each code cell: after a
kill, the file contains all outputs up to that cell.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from time import monotonic
from typing import Any

import nbformat
from jupyter_core.utils import ensure_async, run_sync
from nbclient.util import run_hook
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, NotebookExecutionManager
from papermill.log import logger

from runbook_kernels import enable
from runbook_kernels.kernels import Kernels

_REPLY_SECONDS = 1.0
_IOPUB_SECONDS = 0.2


class ForkServerEngine(Engine):  # type: ignore[misc]
    """Execute a notebook in a kernel from `kernels`, or in a new one; forked where possible."""

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,
        kernel_name: str,
        output_path: str | None = None,
        progress_bar: Any = True,
        log_output: bool = False,
        autosave_cell_every: int = 30,
        **kwargs: Any,
    ) -> Any:
        """Execute a notebook as papermill's engines do, but save less often, and atomically."""
        manager = Manager(
            nb,
            output_path=output_path,
            progress_bar=progress_bar,
            log_output=log_output,
            autosave_cell_every=autosave_cell_every,
        )
        manager.notebook_start()
        try:
            cls.execute_managed_notebook(manager, kernel_name, log_output=log_output, **kwargs)
        finally:
            manager.cleanup_pbar()
            manager.notebook_complete()
        return manager.nb

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        log_output: bool = False,
        stdout_file: Any = None,
        stderr_file: Any = None,
        start_timeout: int = 60,
        execution_timeout: int | None = None,
        kernels: Kernels | None = None,
        another: bool = False,
        input_path: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Execute the cells in a kernel from `kernels` (None: a new one). `another`: start the next one meanwhile."""
        timeout = execution_timeout or kwargs.get("timeout")
        options = {name: value for name, value in kwargs.items() if name not in ("timeout", "startup_timeout")}
        with _kernels(kernels, kernel_name) as source:
            manager = source.take()
            if another:
                source.start_ahead()
            finished = False
            client = _Client(
                nb_man,
                km=manager,
                timeout=timeout,
                startup_timeout=start_timeout,
                kernel_name=kernel_name,
                log=logger,
                log_output=log_output,
                stdout_file=stdout_file,
                stderr_file=stderr_file,
                **options,
            )
            try:
                done = client.execute()
                finished = True
            finally:
                if client.kc is not None:
                    client.kc.stop_channels()
                source.give_back(manager, now=not finished)
        return done


@contextmanager
def _kernels(given: Kernels | None, kernel_name: str) -> Iterator[Kernels]:
    if given is not None:
        yield given
        return
    os.environ.update(enable.environment())
    with Kernels(kernel_name) as own:
        yield own


class _Client(PapermillNotebookClient):  # type: ignore[misc]
    """papermill's client, which starts as soon as the kernel responds."""

    async def async_start_new_kernel_client(self) -> Any:
        """Connect; return when the kernel has replied and its IOPub messages arrive. Raises `RuntimeError`."""
        self.kc = self.km.client()
        self.kc.start_channels()
        await self._until_ready(monotonic() + (self.startup_timeout or 60))
        self.kc.allow_stdin = False
        await run_hook(self.on_notebook_start, notebook=self.nb)
        return self.kc

    start_new_kernel_client = run_sync(async_start_new_kernel_client)

    async def _until_ready(self, limit: float) -> None:
        """Wait for the reply and the idle status; jupyter_client would wait another 0.2 s for further messages."""
        while True:
            asked = self.kc.kernel_info()
            try:
                while (await self.kc.shell_channel.get_msg(timeout=_REPLY_SECONDS))["msg_type"] != "kernel_info_reply":
                    continue
                while not _is_idle_after(await self.kc.iopub_channel.get_msg(timeout=_IOPUB_SECONDS), asked):
                    continue
                return
            except Empty:  # not listening yet, or IOPub is not connected yet: request again
                pass
            if not await ensure_async(self.km.is_alive()):
                raise RuntimeError("Kernel died before replying to kernel_info")
            if monotonic() > limit:
                raise RuntimeError(f"Kernel didn't respond in {self.startup_timeout} seconds")


def _is_idle_after(message: dict[str, Any], asked: str) -> bool:
    state = message["content"].get("execution_state"), message["parent_header"].get("msg_id")
    return message["msg_type"] == "status" and state == ("idle", asked)


class Manager(NotebookExecutionManager):  # type: ignore[misc]
    """papermill's execution manager, which saves before each code cell and at the end."""

    nb: Any
    _saves = True
    _complete = False

    def cell_start(self, cell: Any, cell_index: int | None = None, **kwargs: Any) -> None:
        """Record the start; save the notebook if the cell is code."""
        with self._saving(cell.get("cell_type") == "code"):
            super().cell_start(cell, cell_index, **kwargs)

    def cell_complete(self, cell: Any, cell_index: int | None = None, **kwargs: Any) -> None:
        """Record the end without saving: the next code cell or the end of the notebook saves it."""
        with self._saving(False):
            super().cell_complete(cell, cell_index, **kwargs)

    def notebook_complete(self, **kwargs: Any) -> None:
        """Record the end and save the notebook with nbformat's formatting."""
        self._complete = True
        super().notebook_complete(**kwargs)

    @contextmanager
    def _saving(self, wanted: bool) -> Iterator[None]:
        self._saves = wanted
        try:
            yield
        finally:
            self._saves = True

    def save(self, **kwargs: Any) -> None:
        """Write the notebook atomically; papermill itself writes to a path that is not a local file."""
        if not self._saves:
            return
        path = self.output_path
        if not path or "://" in path or path == "-" or not Path(path).parent.is_dir():
            super().save(**kwargs)
            return
        self.nb = kwargs.get("nb") or self.nb
        tidy: Any = nbformat.v4.writes
        _write(Path(path), tidy(self.nb) if self._complete else json.dumps(self.nb, ensure_ascii=False))
        self.last_save_time = self.now()


def _write(path: Path, text: str) -> None:
    """Replace `path` atomically by a file with `text`: with the rights that it has, or else those of a new file."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            if path.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            file.write(text + "\n")
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
