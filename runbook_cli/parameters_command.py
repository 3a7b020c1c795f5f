"""`runbook parameters`: the included parameter files, also where there is no checkout."""

from __future__ import annotations

import click

from runbook_cli.common import echo, echo_lines, report_errors
from runbook_lib.run.paths import parameters_folder


@click.command()
@click.argument("name", required=False)
@report_errors
def parameters(name: str | None) -> None:
    """Print the included parameter file NAME, or list the files.

    To begin with one: runbook parameters aws.example > my-account.yaml
    """
    from runbook_lib.errors import InputError
    from runbook_lib.inputs.base import nearest

    files = {path.stem: path for path in sorted(parameters_folder().glob("*.yaml"))}
    if name is None:
        for one, path in files.items():
            first = path.read_text(encoding="utf-8").splitlines()[0]
            echo(f"{one:<12} {first.removeprefix('# ')}")
        return
    found = files.get(name.removesuffix(".yaml"))
    if found is None:
        raise InputError(
            [("NAME", f"{name!r} is not included; choose from {', '.join(files)}{nearest(name, str(list(files)))}")]
        )
    echo_lines(found.read_text(encoding="utf-8").rstrip("\n"))
