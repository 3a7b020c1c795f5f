"""Execute one run notebook by notebook, a task each, with PapermillOperator.

RUNBOOK_NOTEBOOKS is the folder of the notebooks (`runbook_lib.run.paths.notebooks_folder()`), RUNBOOK_EXECUTED that of the
executed ones. The kernel `aurora-byok` is the Python that the runbook is installed in; Airflow's own does not need it.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from airflow.providers.papermill.operators.papermill import PapermillOperator
from airflow.sdk import DAG, Param, task

NOTEBOOKS = Path(os.environ.get("RUNBOOK_NOTEBOOKS", "/srv/aurora-byok-runbook/notebooks"))
EXECUTED = Path(os.environ.get("RUNBOOK_EXECUTED", "/var/lib/runbook/executed"))
RETRY_DELAY = timedelta(seconds=int(os.environ.get("RUNBOOK_RETRY_SECONDS", "300")))

with DAG(
    "aurora_byok_notebooks",
    schedule=None,
    tags=["aurora", "kms"],
    params={"run_id": Param("aurora", type="string"), "db_cluster_identifier": Param("aurora-byok", type="string")},
    default_args={"retries": 1, "retry_delay": RETRY_DELAY},
):

    @task
    def output_folder() -> None:
        EXECUTED.mkdir(mode=0o700, parents=True, exist_ok=True)

    before = output_folder()
    for notebook in sorted(NOTEBOOKS.glob("0*.ipynb")):  # 00 to 06: a run from its start to its evidence
        given = {"run_id": "{{ params.run_id }}", "exercises": False}
        if notebook.stem == "00_start":
            given |= {"db_cluster_identifier": "{{ params.db_cluster_identifier }}"}
        one = PapermillOperator(
            task_id=notebook.stem,
            input_nb=str(notebook),
            output_nb=str(EXECUTED / f"{{{{ params.run_id }}}}-{notebook.name}"),
            parameters=given,
            kernel_name="aurora-byok",
        )
        before >> one
        before = one
