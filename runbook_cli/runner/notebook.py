"""The execution of one notebook by papermill: its kernels, their environment, the executed copy and the error.

papermill is imported here, and by the engine that is used here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import runbook_kernels
from runbook_cli.environment import environment_variables
from runbook_lib import errors
from runbook_lib.files import private_folder
from runbook_lib.run.steps import Step

if TYPE_CHECKING:
    from runbook_kernels.kernels import Kernels


def kernels() -> Kernels:
    """Return the source of the kernels for notebooks that are executed one after the other."""
    from runbook_kernels.kernels import Kernels

    return Kernels("python3")


def kernel_environment(runs_dir: Path, **more: str) -> AbstractContextManager[None]:
    """Set the environment variables that kernels started in the block inherit, `more` among them."""
    values = {"RUNBOOK_RUNS_DIR": str(runs_dir), "RUNBOOK_ATTENDED": "0", **runbook_kernels.environment(), **more}
    return environment_variables(values)


def import_papermill() -> Any:
    """Return papermill, imported without what it does not need."""
    import_module("runbook_cli.runner.lean")
    import papermill

    return papermill


def output_path(run_folder: Path, step: Step) -> Path:
    """Return where the executed copy goes; the copies of earlier attempts are kept. Raises `RunNotWritable`."""
    folder = private_folder(run_folder / "notebooks")
    output, attempt = folder / f"{step.name}.ipynb", 1
    while output.exists():
        attempt += 1
        output = folder / f"{step.name}.attempt-{attempt}.ipynb"
    return output


def execute_notebook(
    source: Path, output: Path, parameters: Mapping[str, Any], from_where: Kernels, *, another: bool = False
) -> str:
    """Execute one notebook; return '' or, when a cell failed, its error in one line.

    The executed copy is written before every code cell and at the end (0600), without widget state. With `another`
    the kernel for the next notebook is started meanwhile.
    """
    papermill = import_papermill()
    from nbclient.exceptions import DeadKernelError

    mask = os.umask(0o077)
    try:
        papermill.execute_notebook(
            str(source),
            str(output),
            parameters=dict(parameters),
            engine_name=runbook_kernels.PROVISIONER,
            kernel_name=from_where.kernel_name,
            progress_bar=False,
            log_output=False,
            store_widget_state=False,
            kernels=from_where,
            another=another,
        )
    except papermill.PapermillExecutionError as error:
        return one_line(error.ename, error.evalue)
    except DeadKernelError:
        return "the notebook's kernel died (killed, or out of memory)"
    except OSError as error:
        raise errors.RunNotWritable(
            f"cannot write {output} ({error.strerror}); make room or mend the permissions"
        ) from error
    finally:
        os.umask(mask)
    return ""


def one_line(ename: str, evalue: str) -> str:
    """Return an error of a cell as one readable line."""
    text = " ".join(str(evalue).split()) or "no message"
    return text if hasattr(errors, ename) else f"{ename}: {text}"
