"""What all commands of `runbook` share: error reporting and exit codes, printing, common options."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from runbook_lib import errors
from runbook_lib.texts import visible, visible_lines

BAD_USAGE = (
    errors.InputError,
    errors.ParameterFileInvalid,
    errors.ParameterChanged,
    errors.NotConfirmed,
)


def report_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Print a runbook error or an AWS error as one line on standard error, and exit with its documented code."""

    @wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except errors.InputError as error:
            for field, message in error.problems:
                echo(f"error: {field}: {message}", err=True)
            sys.exit(2)
        except errors.RunbookError as error:
            echo(f"error: {error}", err=True)
            if isinstance(error, errors.StepFailed) and error.output:
                echo(f"  the executed notebook is {error.output}", err=True)
            sys.exit(2 if isinstance(error, BAD_USAGE) else 1)
        except Exception as error:
            # botocore is imported by the commands that call AWS, not for `runbook --help`.
            if "botocore" not in sys.modules or not _is_from_aws(error):
                raise
            echo(f"error: {' '.join(str(error).split())}", err=True)
            sys.exit(1)

    return wrapper


def _is_from_aws(error: Exception) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    return isinstance(error, (BotoCoreError, ClientError))


runs_dir_option = click.option(
    "--runs-dir", type=click.Path(file_okay=False, path_type=Path), help="Folder that contains the runs."
)
parameter_option = click.option(
    "-p",
    "overrides",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="Set a parameter; overrides the file. Repeatable.",
)


def echo(line: str, *, err: bool = False) -> None:
    """Print one line, without control characters: it may quote files, bundles and answers."""
    click.echo(visible(line), err=err)


def echo_lines(text: str) -> None:
    """Print a text of several lines, such as a table: its values have no line feeds."""
    click.echo(visible_lines(text))


def print_line(line: str) -> None:
    """Print a line and flush it, so that a pipe receives it at once."""
    echo(line)
    sys.stdout.flush()
