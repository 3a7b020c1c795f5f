"""Airflow 3 for real: scheduler, API server and workers; a killed worker, a file that must fail, and no secret in the database.

`make test-airflow` installs Airflow into an environment of its own, and names it in RUNBOOK_AIRFLOW.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_bytes
from typing import Any

import pytest
from leaks import search

from conftest import ROOT, World

AIRFLOW = os.environ.get("RUNBOOK_AIRFLOW", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.by_command,
    pytest.mark.skipif(not AIRFLOW, reason="make test-airflow"),
]


class Installation:
    """Airflow with its services, the runs folder that its workers share, and a sandbox."""

    def __init__(self, folder: Path, world: World) -> None:
        self.folder, self.world = folder, world
        self.parameters = folder / "parameters"
        self.parameters.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        settings = {
            "CORE__DAGS_FOLDER": str(ROOT / "examples" / "airflow" / "dags"), "CORE__LOAD_EXAMPLES": "False",
            "CORE__EXECUTOR": "LocalExecutor", "CORE__PARALLELISM": "2",
            "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.port}/execution/",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True", "API_AUTH__JWT_SECRET": "not-a-secret-" * 8,
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.database}",
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15", "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
            "DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        }  # fmt: skip
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST"))},
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
            "AIRFLOW_HOME": str(folder), "RUNBOOK": str(Path(sys.executable).with_name("runbook")),
            "RUNBOOK_PARAMETERS": str(self.parameters), "RUNBOOK_RUNS_DIR": str(world.folder),
            "RUNBOOK_NOTEBOOKS": str(ROOT / "notebooks"), "RUNBOOK_EXECUTED": str(folder / "executed"),
            "RUNBOOK_RETRY_SECONDS": "2",
            "RUNBOOK_SANDBOX_ENDPOINT": world.sandbox.url, "JUPYTER_DATA_DIR": str(folder / "jupyter"),
        }  # fmt: skip
        self._services: list[subprocess.Popen[bytes]] = []

    @property
    def database(self) -> Path:
        return self.folder / "airflow.db"

    def command(self, *words: str) -> str:
        done = subprocess.run(
            [AIRFLOW, *words], env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout

    def start(self) -> None:
        self.command("db", "migrate")
        for name, *words in (("api-server", "--port", str(self.port)), ("scheduler",), ("dag-processor",)):
            with (self.folder / f"{name}.log").open("wb") as log:
                self._services.append(
                    subprocess.Popen(
                        [AIRFLOW, name, *words], env=self.environment, stdout=log, stderr=log, start_new_session=True
                    )
                )

    def stop(self) -> None:
        for service in self._services:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(service.pid, signal.SIGKILL)
            service.wait()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)) as there:
            return there.execute(query).fetchall()

    def wait(self, until: Callable[[], Any], *, seconds: float, what: str) -> Any:
        end = time.monotonic() + seconds
        while not (found := until()):
            logs = "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in self.folder.glob("*.log"))
            assert time.monotonic() < end, f"{what}\n{self.tasks()}\n{logs}"
            time.sleep(0.05)
        return found

    def tasks(self) -> list[tuple[Any, ...]]:
        """Return dag, task, map index, state and number of tries of each task."""
        return self.rows("select dag_id, task_id, map_index, state, try_number from task_instance order by 1, 2, 3")

    def trigger(self, dag: str, *words: str) -> None:
        known = lambda: self.rows(f"select 1 from dag where dag_id = '{dag}'")  # noqa: E731, S608 - a literal
        self.wait(known, seconds=90, what=f"{dag} is not known")
        self.command("dags", "unpause", dag)
        self.command("dags", "trigger", dag, "--run-id", "tried", *words)

    def ended(self, dag: str, *, seconds: float) -> str:
        """Wait for the DAG run; return its state."""
        query = f"select state from dag_run where dag_id = '{dag}' and run_id = 'tried'"  # noqa: S608 - a literal
        of = lambda: [one for (one,) in self.rows(query) if one in ("success", "failed")]  # noqa: E731
        return str(self.wait(of, seconds=seconds, what=f"{dag} does not end")[0])


@pytest.fixture
def airflow(world: World, tmp_path: Path) -> Iterator[Installation]:
    folder = tmp_path / "airflow"
    folder.mkdir()
    installation = Installation(folder, world)
    subprocess.run(
        [sys.executable, "-m", "ipykernel", "install", "--name", "aurora-byok", "--prefix", folder / "kernel",
         "--env", "RUNBOOK_RUNS_DIR", world.folder],
        check=True, capture_output=True,
    )  # fmt: skip
    installation.environment["JUPYTER_PATH"] = str(folder / "kernel" / "share" / "jupyter")
    installation.start()
    yield installation
    installation.stop()


def _processes(words: str) -> list[tuple[int, int]]:
    """Return process and parent of each process whose command line has these words."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if entry.name.isdigit() and words in line:
                found.append((int(entry.name), int((entry / "stat").read_text().rpartition(")")[2].split()[1])))
    return found


def test_a_killed_worker_is_retried_and_a_wrong_file_is_final(airflow: Installation) -> None:
    """One key and one cluster after SIGKILL and a retry; the misspelt file turns the DAG run red at once, without a retry."""
    world, secret, material = airflow.world, airflow.folder.parent / "material.bin", token_bytes(32)
    secret.write_bytes(material)
    secret.chmod(0o600)
    good = {"target": "sandbox", "region": "eu-west-2", "key_material_source": "file", "key_material_file": str(secret)}
    (airflow.parameters / "good.yaml").write_text("\n".join(f"{name}: {value}" for name, value in good.items()))
    (airflow.parameters / "wrong.yaml").write_text("target: sandbox\ndb_cluster_identifer: shop\n")
    airflow.trigger("aurora_byok")

    def working() -> list[tuple[int, int]]:
        state = world.folder / "good" / "state.json"
        return _processes("--run-id good") if state.exists() and "key_id" in state.read_text() else []

    [(process, worker), *_] = airflow.wait(working, seconds=120, what="no worker has created a key")
    for one in (worker, process):  # the machine of the worker dies: nobody says goodbye
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    assert airflow.ended("aurora_byok", seconds=150) == "failed"
    tries = {task: (state, tries) for _, name, task, state, tries in airflow.tasks() if name == "runbook_run"}
    assert sorted(tries.values()) == [("failed", 1), ("success", 2)]
    keys = world.client("kms").list_keys()["Keys"]
    metadata = [world.client("kms").describe_key(KeyId=one["KeyId"])["KeyMetadata"] for one in keys]
    assert [one["Origin"] for one in metadata if one["KeyManager"] == "CUSTOMER"].count("EXTERNAL") == 1
    assert len(world.client("rds").describe_db_clusters()["DBClusters"]) == 1
    returned = [json.loads(value) if isinstance(value, str) else value
                for (value,) in airflow.rows("select value from xcom where task_id = 'runbook_run'")]  # fmt: skip
    assert {"run_id": "good", "report": str(world.folder / "good" / "report.html")} in returned
    assert not search(airflow.folder, [material]), "neither database nor logs hold the key material"
    (airflow.folder / "planted").write_text(material.hex())
    assert search(airflow.folder, [material]), "and it would have been found"


def test_each_notebook_is_a_task(airflow: Installation) -> None:
    """PapermillOperator executes 00 to 06 with the kernel of the runbook, which Airflow's Python does not have."""
    airflow.trigger("aurora_byok_notebooks", "--conf", json.dumps({"run_id": "shop", "db_cluster_identifier": "shop"}))
    assert airflow.ended("aurora_byok_notebooks", seconds=240) == "success", airflow.tasks()
    assert len(airflow.tasks()) == 1 + 7
    assert airflow.world.report("shop")["verified"] is True
    assert (airflow.folder / "executed" / "shop-06_verify_encryption.ipynb").is_file()
