"""`python -m runbook_sandbox`: the process that `sandbox_process.ensure` starts."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from runbook_lib.aws.sandbox_process import SEED_VARIABLE
from runbook_lib.errors import SandboxUnavailable
from runbook_sandbox.server.starting import quick_imports


def main() -> int:
    """Parse the options and serve."""
    options = argparse.ArgumentParser(prog="python -m runbook_sandbox", description=__doc__)
    options.add_argument("--host", help="address to serve instead of 127.0.0.1; anyone who can reach it has access")
    options.add_argument("--port", type=int, default=0, help="port to serve; 0 picks a free one")
    options.add_argument("--runs-dir", type=Path, help="write the endpoint file to this folder")
    options.add_argument("--idle-minutes", type=float, help="stop after this many minutes without a request")
    options.add_argument("--seed", type=int, help="derive ids from this number, so that they repeat")
    given = options.parse_args()
    seed = given.seed
    if seed is None and os.environ.get(SEED_VARIABLE, "").lstrip("-").isdigit():
        seed = int(os.environ[SEED_VARIABLE])
    try:
        with quick_imports():
            from runbook_sandbox.server.server import serve

        serve(
            host=given.host or "127.0.0.1", port=given.port, runs_dir=given.runs_dir,
            idle_minutes=given.idle_minutes, seed=seed, allow_remote=given.host is not None,
            announce=lambda url: print(url, flush=True),
        )  # fmt: skip
    except SandboxUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
