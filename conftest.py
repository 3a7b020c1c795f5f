"""One fresh runs folder and one seeded sandbox per pytest session; root, so that `pytest notebooks` has it too."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path

import pytest

import runbook_kernels
from runbook_lib.aws import sandbox_process

_HERE = Path(__file__).parent
_AWS = (
    "AWS_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
)


def pytest_configure(config: pytest.Config) -> None:
    """Let a plain `pytest --nbval notebooks` compare what can be compared, in this environment."""
    if getattr(config.option, "nbval", False):
        if getattr(config.option, "numprocesses", None):
            raise pytest.UsageError("--nbval: the notebooks build on each other and run in one process; omit -n")
        config.option.randomly_reorganize = False  # cells run in their notebook's order
        config.option.nbval_sanitize_with = config.option.nbval_sanitize_with or str(
            _HERE / "tests" / "nbval_sanitize.cfg"
        )
        config.option.nbval_current_env = True
        # Before the first kernel; RUNBOOK_KERNEL=plain leaves Jupyter's own.
        os.environ.update(runbook_kernels.environment())
        runbook_kernels.start()


@pytest.hookimpl(trylast=True)  # after pytest-randomly
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of a module marked `in_order` together and in the order of its text, where its first one stands."""
    marked = [item for item in items if item.get_closest_marker("in_order")]
    for module in {item.path for item in marked}:
        walk = sorted((item for item in marked if item.path == module), key=lambda item: item.reportinfo()[1] or 0)
        first = next(index for index, item in enumerate(items) if item in walk)
        items[:] = [*items[:first], *walk, *(item for item in items[first:] if item not in walk)]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Point everything, the kernels of nbval included, at a runs folder of this session's own."""
    folder = tempfile.mkdtemp(prefix="runbook-test-")
    session.config.stash[_FOLDER] = folder
    for name in (*_AWS, "RUNBOOK_SEAT"):
        os.environ.pop(name, None)
    os.environ.update(
        RUNBOOK_RUNS_DIR=folder, RUNBOOK_SANDBOX_SEED="7", RUNBOOK_ATTENDED="0", AWS_EC2_METADATA_DISABLED="true"
    )
    if getattr(session.config.option, "nbval", False):  # it starts while the notebooks are collected
        session.config.stash[_STARTING] = threading.Thread(
            target=sandbox_process.ensure, args=(Path(folder),), daemon=True
        )
        session.config.stash[_STARTING].start()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the sandbox and remove the runs."""
    folder = session.config.stash.get(_FOLDER, None)
    if folder:
        if (starting := session.config.stash.get(_STARTING, None)) is not None:
            starting.join()
        sandbox_process.stop(Path(folder))
        shutil.rmtree(folder, ignore_errors=True)


_FOLDER: pytest.StashKey[str] = pytest.StashKey()
_STARTING: pytest.StashKey[threading.Thread] = pytest.StashKey()
