"""Create or verify one cluster per parameter file: a mapped task executes `runbook run` for each file of a folder.

RUNBOOK is the command, RUNBOOK_PARAMETERS the folder, RUNBOOK_RUNS_DIR the folder of the runs, which all workers share. The
name of the file is the run's name, so that a retry continues the run, and the next date verifies it.
"""

from __future__ import annotations

import os
import subprocess
from datetime import timedelta
from pathlib import Path

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException

RUNBOOK = os.environ.get("RUNBOOK", "/srv/aurora-byok-runbook/.venv/bin/runbook")
PARAMETERS = Path(os.environ.get("RUNBOOK_PARAMETERS", "/srv/aurora-byok"))
RUNS = Path(os.environ.get("RUNBOOK_RUNS_DIR", "/var/lib/runbook/runs"))
WRONG_PARAMETERS = 2
RETRY_DELAY = timedelta(seconds=int(os.environ.get("RUNBOOK_RETRY_SECONDS", "300")))


@dag(schedule="15 3 * * *", catchup=False, max_active_runs=1, tags=["aurora", "kms"])
def aurora_byok():
    """Fail if one file fails; the others are carried out."""

    @task
    def parameter_files() -> list[str]:
        return sorted(str(file) for file in PARAMETERS.glob("*.yaml"))

    @task(retries=3, retry_delay=RETRY_DELAY, max_active_tis_per_dag=4, map_index_template="{{ run_id_of_file }}")
    def runbook_run(file: str) -> dict[str, str]:
        from airflow.sdk import get_current_context

        run_id = Path(file).stem
        get_current_context()["run_id_of_file"] = run_id
        command = [RUNBOOK, "run", file, "--run-id", run_id, "--runs-dir", str(RUNS), "--keep-reports", "90"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print(done.stdout, done.stderr, sep="\n")
        if done.returncode == WRONG_PARAMETERS:  # no AWS call was made, and no repetition changes the file
            raise AirflowFailException(done.stderr.strip())
        if done.returncode:
            raise AirflowException(done.stderr.strip())
        return {"run_id": run_id, "report": str(RUNS / run_id / "report.html")}

    runbook_run.expand(file=parameter_files())


aurora_byok()
