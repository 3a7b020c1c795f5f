"""Write environment.yml from requirements.lock: the same packages in the same versions, for conda and for Binder.

`python tools/environment.py` (part of `make lock`) writes the file; a test compares it with what would be written. pip checks
no hashes here, because conda passes it a list of names; `make` installs the lock itself, with hashes.
"""

from __future__ import annotations

import re
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PYTHON = "3.12"
_SYSTEMS = {"linux": "Linux", "darwin": "Darwin"}  # sys_platform: platform_system
_HEAD = """\
# Written by `make lock` from requirements.lock: do not edit. Python and pip from conda, the rest in the versions of the lock.
#   conda env create -f environment.yml
#   conda run -n aurora-byok-runbook pip install --no-deps -e .
# On Binder, postBuild does the second line. Neither conda nor Binder was run here; conda-lock and repo2docker read it.
name: aurora-byok-runbook
channels: [conda-forge]
dependencies:
  - python={python}
  - pip
  - pip:
"""


def requirements(lock: str) -> list[str]:
    """Return the requirements of a lock file, without their hashes, as far as this Python needs them."""
    lines = (line.removesuffix("\\").strip() for line in lock.splitlines())
    found = [Requirement(line) for line in lines if re.match(r"[A-Za-z0-9]", line)]
    return [line for one in found if (line := _for_conda(one))]


def _for_conda(one: Requirement) -> str:
    """Return a requirement with no other marker than the system: conda-lock's parser takes no others. "" if it is not needed."""
    pinned = f"{one.name}{one.specifier}"
    on = [system for system in _SYSTEMS if one.marker is None or one.marker.evaluate(_environment(system))]
    if len(on) == len(_SYSTEMS):
        return pinned
    return f"{pinned} ; sys_platform == '{on[0]}'" if on else ""


def _environment(system: str) -> dict[str, str]:
    return {
        "sys_platform": system, "platform_system": _SYSTEMS[system], "os_name": "posix", "platform_machine": "x86_64",
        "python_version": PYTHON, "python_full_version": f"{PYTHON}.0", "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }  # fmt: skip


def written() -> str:
    """Return the content of environment.yml."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return _HEAD.format(python=PYTHON) + "".join(f'      - "{line}"\n' for line in requirements(lock))


if __name__ == "__main__":
    (ROOT / "environment.yml").write_text(written(), encoding="utf-8")
