"""What several suites use: a world of one's own (runs folder and sandbox), and the command line as a user has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from walk import Walk

from runbook_lib.aws import sandbox_process
from runbook_lib.aws.sandbox_accounts import DEFAULT_ACCOUNT, role_arn

ROOT = Path(__file__).parent.parent
# The suite takes a fixed sample, the same on every machine; `make fuzz` searches at random, and long.
settings.register_profile("sample", max_examples=200, derandomize=True, database=None, deadline=None)
settings.register_profile("search", max_examples=20_000, deadline=None)
settings.load_profile("sample")


@cache
def _client(url: str, service: str, region: str, account: str) -> Any:
    """Return a plain client; one is kept for each account, since making it costs more than most tests."""
    import boto3

    client = boto3.client(
        service, endpoint_url=url, region_name=region, aws_access_key_id="test", aws_secret_access_key="test",  # noqa: S106
    )  # fmt: skip
    if account != DEFAULT_ACCOUNT:
        client.meta.events.register(
            "before-sign", lambda request, **_: request.headers.add_header("x-moto-account-id", account)
        )
    return client


class World:
    """A runs folder with a sandbox of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def runbook(self, *words: str, code: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command; `code` is the exit code that is expected, None for any."""
        done = subprocess.run(
            [sys.executable, "-m", "runbook_cli.main", *words],
            env={**os.environ, "RUNBOOK_RUNS_DIR": str(self.folder), **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        if code is not None:
            assert code == done.returncode, (done.stdout, done.stderr)
        return done

    @property
    def sandbox(self) -> sandbox_process.Sandbox:
        """The sandbox of this folder, started if need be."""
        return sandbox_process.ensure(self.folder)

    def ask(self, path: str, body: object = None, *, method: str = "") -> Any:
        """Ask the sandbox one of its own questions."""
        return sandbox_process.call(self.sandbox.url, path, body=body, method=method or ("POST" if body else "GET"))

    def client(self, service: str, *, region: str = "eu-west-2", account: str = DEFAULT_ACCOUNT) -> Any:
        """Return a plain boto3 client, as somebody has who knows nothing of the runbook."""
        return _client(self.sandbox.url, service, region, account)

    def calls(self, since: int = 0) -> list[str]:
        """Return what was called, as service:Operation, in order."""
        found = self.ask(f"/runbook/calls?since={since}")["calls"]
        return [f"{call['service']}:{call['operation']}" for call in found]

    def state(self, run_id: str) -> dict[str, Any]:
        """Return a run's state.json."""
        return json.loads((self.folder / run_id / "state.json").read_text())

    def report(self, run_id: str) -> dict[str, Any]:
        """Return a run's report.json."""
        return json.loads((self.folder / run_id / "report.json").read_text())


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world for one test; its sandbox ends with it."""
    monkeypatch.delenv("RUNBOOK_SANDBOX_ENDPOINT", raising=False)
    folder = tmp_path / "runs"
    folder.mkdir(mode=0o700)
    yield World(folder)
    sandbox_process.stop(folder)


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world for a module whose tests only look."""
    folder = tmp_path_factory.mktemp("world") / "runs"
    folder.mkdir(mode=0o700)
    before = os.environ.pop("RUNBOOK_SANDBOX_ENDPOINT", None)
    yield World(folder)
    sandbox_process.stop(folder)
    if before:
        os.environ["RUNBOOK_SANDBOX_ENDPOINT"] = before


ADMIN = role_arn(DEFAULT_ACCOUNT)


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """Serve a sandbox in this process, for the tests of a module."""
    from kms_support import sandbox

    with sandbox() as url:
        yield url


@pytest.fixture
def walk(served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Walk:
    """A run of one's own on an empty sandbox, walked through in this process."""
    from kms_support import reset

    reset(served)
    monkeypatch.setenv(sandbox_process.ENDPOINT_VARIABLE, served)
    folder = tmp_path / "runs"
    folder.mkdir(mode=0o700)
    return Walk(folder, served)
