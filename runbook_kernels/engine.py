"""A papermill engine that loses no time around the cells: `papermill --engine fork-server …`, or through `Kernels`.

Its notebooks are those of papermill's own engine. What differs is the time around the cells: the kernel may have
been started before; that it is ready is seen, not waited for; it ends in the background. And a notebook is saved
once for each code cell, whole or not at all, before the cell runs: a kill leaves all that had come until then.
"""

from __future__ import annotations

import json
import os
import tempfile
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
    """Execute a notebook in a kernel of `kernels`, or in one of its own; forked where that can be."""

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
        """Do as papermill's engines do, with a manager that saves less often and safely."""
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
        """Execute the cells. `kernels` are the caller's, where notebooks follow each other; `another` is one that will."""
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
    """papermill's client, which begins as soon as the kernel listens."""

    async def async_start_new_kernel_client(self) -> Any:
        """Connect; return when the kernel has answered and its broadcasts arrive. Raises `RuntimeError`."""
        self.kc = self.km.client()
        self.kc.start_channels()
        await self._until_ready(monotonic() + (self.startup_timeout or 60))
        self.kc.allow_stdin = False
        await run_hook(self.on_notebook_start, notebook=self.nb)
        return self.kc

    start_new_kernel_client = run_sync(async_start_new_kernel_client)

    async def _until_ready(self, limit: float) -> None:
        """jupyter_client sees the same, and then waits 0.2 s for broadcasts that do not come."""
        while True:
            asked = self.kc.kernel_info()
            try:
                while (await self.kc.shell_channel.get_msg(timeout=_REPLY_SECONDS))["msg_type"] != "kernel_info_reply":
                    continue
                while not _is_idle_after(await self.kc.iopub_channel.get_msg(timeout=_IOPUB_SECONDS), asked):
                    continue
                return
            except Empty:  # not listening yet, or what it broadcasts did not reach us yet: ask again
                pass
            if not await ensure_async(self.km.is_alive()):
                raise RuntimeError("Kernel died before replying to kernel_info")
            if monotonic() > limit:
                raise RuntimeError(f"Kernel didn't respond in {self.startup_timeout} seconds")


def _is_idle_after(message: dict[str, Any], asked: str) -> bool:
    state = message["content"].get("execution_state"), message["parent_header"].get("msg_id")
    return message["msg_type"] == "status" and state == ("idle", asked)


class Manager(NotebookExecutionManager):  # type: ignore[misc]
    """papermill's record of an execution, saved before each code cell and at the end."""

    nb: Any
    _saves = True
    _complete = False

    def cell_start(self, cell: Any, cell_index: int | None = None, **kwargs: Any) -> None:
        """Note the start; save, with all that came before in it, if the cell is code."""
        with self._saving(cell.get("cell_type") == "code"):
            super().cell_start(cell, cell_index, **kwargs)

    def cell_complete(self, cell: Any, cell_index: int | None = None, **kwargs: Any) -> None:
        """Note the end: the next code cell, or the end of the notebook, follows at once and saves it."""
        with self._saving(False):
            super().cell_complete(cell, cell_index, **kwargs)

    def notebook_complete(self, **kwargs: Any) -> None:
        """Note the end and save, in the form that is made for reading and comparing."""
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
        """Write the notebook whole or not at all; a path that is no file of this machine is papermill's to write."""
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
    """Replace `path` by a file with `text`, with the rights that a new file has."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
