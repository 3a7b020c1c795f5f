"""Execute one notebook with papermill: its kernels, their environment, the executed copy and the error.

Besides the papermill engine this is the only module that imports papermill.
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
    """Return the source of kernels for notebooks that are executed one after another."""
    from runbook_kernels.kernels import Kernels

    return Kernels("python3")


def kernel_environment(runs_dir: Path, **more: str) -> AbstractContextManager[None]:
    """Set the environment variables, including `more`, for kernels that are started in the block."""
    values = {"RUNBOOK_RUNS_DIR": str(runs_dir), "RUNBOOK_ATTENDED": "0", **runbook_kernels.environment(), **more}
    return environment_variables(values)


def import_papermill() -> Any:
    """Return papermill, imported without the slow dependencies that `lean` keeps out."""
    import_module("runbook_cli.runner.lean")
    import papermill

    return papermill


def output_path(run_folder: Path, step: Step) -> Path:
    """Return the path for the executed copy; copies of earlier attempts are kept. Raises `FileNotWritable`."""
    folder = private_folder(run_folder / "notebooks")
    output, attempt = folder / f"{step.name}.ipynb", 1
    while output.exists():
        attempt += 1
        output = folder / f"{step.name}.attempt-{attempt}.ipynb"
    return output


def execute_notebook(
    source: Path, output: Path, parameters: Mapping[str, Any], source_of_kernels: Kernels, *, another: bool = False
) -> str:
    """Execute one notebook; return an empty string or, when a cell failed, its error as one line.

    The executed copy (mode 0600, without widget state) is written before each code cell and at the end. `another`:
    start the kernel of the next notebook meanwhile. Raises `FileNotWritable`.
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
            kernel_name=source_of_kernels.kernel_name,
            progress_bar=False,
            log_output=False,
            store_widget_state=False,
            kernels=source_of_kernels,
            another=another,
        )
    except papermill.PapermillExecutionError as error:
        return one_line(error.ename, error.evalue)
    except DeadKernelError:
        return "the notebook's kernel died (killed, or out of memory)"
    except OSError as error:
        raise errors.FileNotWritable(
            f"cannot write {output} ({error.strerror}); free disk space or fix the permissions"
        ) from error
    finally:
        os.umask(mask)
    return ""


def one_line(ename: str, evalue: str) -> str:
    """Return the error of a cell as one line, without the class name if it is one of the runbook's errors."""
    text = " ".join(str(evalue).split()) or "no message"
    return text if hasattr(errors, ename) else f"{ename}: {text}"
