"""Run the benchmarks and write the table in docs/performance.md: `make bench`, or `python tools/bench.py --rounds 3`.

Rounds are interleaved, each measurement uses a new sandbox, and the figures are medians. Wall-clock and CPU seconds
cover the command, its kernels and the process that kernels are forked from, not the sandbox.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from bench_page import rows, write
from bench_tools import BIN, Place, Taken, children, fresh, measure, open_locks, parents, pss, started, until

from runbook_lib.aws import sandbox_process
from runbook_lib.run.paths import notebooks_folder
from runbook_lib.run.steps import CREATE_CLUSTER, chain

STEPS = [step.name for step in chain()]
# The papermill command as if JupyterLab, which installs this parser, were missing.
WITHOUT_LAB = "import sys; sys.modules['rfc3987_syntax'] = None; from papermill.__main__ import papermill; papermill()"
FLOOR = """
import json, sys
for path in sys.argv[2:]:
    page = {"__name__": "__main__"}
    for cell in json.load(open(path))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), page)
            if "parameters" in cell["metadata"].get("tags", ()):
                page.update(run_id=sys.argv[1], exercises=False)
"""


# The benchmarks -------------------------------------------------------------------------------------------------


class Bench:
    """The benchmarks, with their measurements by name."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.runtime = scratch / "runtime"
        self.runtime.mkdir(mode=0o700)
        self.taken: dict[str, Taken] = {}
        self.facts: dict[str, Any] = {"further": []}

    def note(self, name: str, place: Place, work: Callable[[], Any]) -> None:
        """Measure `work` and record it under this name."""
        measure(self.taken.setdefault(name, Taken()), place, work)
        print(f"  {name:<24} {self.taken[name].wall[-1]:7.2f} s  CPU {self.taken[name].cpu[-1]:6.2f} s", flush=True)

    def chains(self) -> None:
        """Measure the chain: papermill in a loop, `runbook run`, the same with plain kernels, one script."""
        runbook, python = str(BIN / "runbook"), sys.executable

        def loop(place: Place, **more: Any) -> None:
            for name in STEPS:
                place.papermill(name, "loop", **more)

        with fresh(self.runtime) as place:
            self.note("loop", place, lambda: loop(place))
        with fresh(self.runtime) as place:
            self.note("loop without lab", place, lambda: loop(place, stock=(python, "-c", WITHOUT_LAB)))
        with fresh(self.runtime) as place:
            variable = {"JUPYTER_DEFAULT_PROVISIONER_NAME": "fork-server"}
            self.note("loop, forked", place, lambda: loop(place, **variable))
        with tempfile.TemporaryDirectory() as cold, fresh(Path(cold)) as place:
            self.note("runbook, cold", place, lambda: place.run(runbook, "run", "--run-id", "cold"))
        with fresh(self.runtime) as place:
            self.note("runbook", place, lambda: place.run(runbook, "run", "--run-id", "ours"))
            self.facts["further"] += _further(place.runs / "ours" / "notebooks")
            self.note("one", place, lambda: place.run(runbook, "run", "--run-id", "ours"))
            self.note("one, papermill", place, lambda: place.papermill(STEPS[-1], "ours"))
        with fresh(self.runtime) as place:
            self.note(
                "runbook, plain", place, lambda: place.run(runbook, "run", "--run-id", "plain", "--kernel", "plain")
            )
        with fresh(self.runtime) as place:
            pages = [str(notebooks_folder() / f"{name}.ipynb") for name in STEPS]
            self.note("script", place, lambda: place.run(python, "-c", FLOOR, "floor", *pages))

    def many(self) -> None:
        """Measure eight parameter files, four at a time."""
        files = self._files("eight", 8)
        with fresh(self.runtime) as place:
            folder = str(self.scratch / "eight")
            self.note("eight", place, lambda: place.run(str(BIN / "runbook"), "run", folder, "--jobs", "4"))
        with fresh(self.runtime) as place:
            notebook = f"{notebooks_folder()}/$n.ipynb"
            one = f'for n in {" ".join(STEPS)}; do {BIN}/papermill {notebook} {place.runs}/$0-$n.ipynb -f "$1" || exit 255; done'
            names = " ".join(f"{file.stem} {file}" for file in files)
            command = f"echo {names} | xargs -P4 -n2 sh -c '{one}'"
            self.note("eight, xargs", place, lambda: place.run("sh", "-c", command))

    def _files(self, name: str, number: int) -> list[Path]:
        folder = self.scratch / name
        folder.mkdir(exist_ok=True)
        for one in range(number):
            text = f"run_id: r{one}\nexercises: false\nkey_alias: alias/c{one}\ndb_cluster_identifier: c{one}\n"
            (folder / f"r{one}.yaml").write_text(text + 'account_id: "123456789012"\npoll_seconds: 2\n')
        return sorted(folder.iterdir())

    def waiting(self) -> None:
        """Let 100 runs wait for ten seconds; record the describe calls per poll, kernels and memory."""
        os.environ["RUNBOOK_SANDBOX_QUOTA"] = "200"  # for the sandbox that starts next
        with fresh(self.runtime) as place:
            url = sandbox_process.ensure(place.runs).url
            sandbox_process.call(url, "/runbook/progression", body={"mode": "seconds", "seconds": 3600}, method="POST")
            first = self._files("hundred", 100)[0]
            command = [str(BIN / "runbook"), "run", "--jobs", "4"]
            _until_waiting([*command, str(first)], place, 1)
            self._clone(place, url)
            with started([*command, str(self.scratch / "hundred")], place) as running:
                until(lambda: open_locks(running.pid) == 100 and len(children(running.pid)) == 0, interval=0.1)
                since, began = len(sandbox_process.call(url, "/runbook/calls")["calls"]), time.monotonic()
                time.sleep(10)
                answer = sandbox_process.call(url, f"/runbook/calls?since={since}")["calls"]
                self.facts["waiting"] = {
                    "describe calls per poll": len([c for c in answer if c["operation"].startswith("Describe")])
                    / max(1, (time.monotonic() - began) // 2),
                    "kernels": sum(len(children(pid)) for pid in parents(self.runtime)),
                    "MB": pss(running.pid),
                }
                running.terminate()

    def _clone(self, place: Place, url: str) -> None:
        """Copy a run that waits for its cluster 99 times, and create a cluster for each copy."""
        import boto3

        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "eu-west-2"}
        rds = boto3.client("rds", endpoint_url=url, **keys)
        like = rds.describe_db_clusters(DBClusterIdentifier="c0")["DBClusters"][0]
        text = (place.runs / "r0" / "state.json").read_text()
        for number in range(1, 100):
            rds.create_db_cluster(
                DBClusterIdentifier=f"c{number}", Engine=like["Engine"], EngineVersion=like["EngineVersion"],
                StorageEncrypted=True, KmsKeyId=like["KmsKeyId"], MasterUsername="dbadmin", ManageMasterUserPassword=True,
                DBSubnetGroupName=like["DBSubnetGroup"],
            )  # fmt: skip
            rds.create_db_instance(
                DBInstanceIdentifier=f"c{number}-1", DBClusterIdentifier=f"c{number}", Engine=like["Engine"],
                DBInstanceClass="db.t4g.medium",
            )  # fmt: skip
            (place.runs / f"r{number}").mkdir(mode=0o700)
            cloned = re.sub(r"\bc0\b", f"c{number}", text).replace('"r0"', f'"r{number}"')
            (place.runs / f"r{number}" / "state.json").write_text(cloned)

    def memory(self) -> None:
        """Measure the memory of one of eight kernels, after it has executed notebook 06 of a finished run."""
        with fresh(self.runtime) as place:
            place.run(str(BIN / "runbook"), "run", "--run-id", "memory")
            for kind in ("forked", "plain"):
                script = MEMORY.format(page=str(notebooks_folder() / f"{STEPS[-1]}.ipynb"))
                variable = {} if kind == "plain" else {"JUPYTER_DEFAULT_PROVISIONER_NAME": "fork-server"}
                printed = place.run(sys.executable, "-c", script, **variable)
                self.facts[f"MB, {kind}"] = tuple(map(float, printed.split()))

    def nbval(self) -> None:
        """Measure `pytest --nbval` with Jupyter's kernels and with forked ones."""
        with fresh(self.runtime) as place:
            command = [str(BIN / "pytest"), "-q", "-p", "no:cacheprovider", "--nbval", "notebooks"]
            self.note("nbval", place, lambda: place.run(*command, RUNBOOK_KERNEL="plain"))
            self.note("nbval, forked", place, lambda: place.run(*command))

    def status(self) -> None:
        """Measure `runbook status` with 200 runs, and `runbook --help`."""
        with fresh(self.runtime) as place:
            place.run(str(BIN / "runbook"), "run", "--run-id", "r0")
            state = json.loads((place.runs / "r0" / "state.json").read_text())
            for number in range(1, 200):
                (place.runs / f"r{number}").mkdir(mode=0o700)
                (place.runs / f"r{number}" / "state.json").write_text(json.dumps(state | {"run_id": f"r{number}"}))
            for _ in range(5):
                self.note("status", place, lambda: place.run(str(BIN / "runbook"), "status"))
                self.note("help", place, lambda: place.run(str(BIN / "runbook"), "--help"))


MEMORY = """
import json
from runbook_kernels.kernels import Kernels
with Kernels() as kernels:
    manager, *others = [kernels.take() for _ in range(8)]
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(60)
    for cell in json.load(open({page!r}))["cells"]:
        if cell["cell_type"] == "code":
            client.execute_interactive("".join(cell["source"]), output_hook=lambda _: None, timeout=120)
            if "parameters" in cell["metadata"].get("tags", ()):
                client.execute_interactive("run_id, exercises = 'memory', False", output_hook=lambda _: None)
    rollup = open(f"/proc/{{manager.provisioner.process.pid}}/smaps_rollup").read()
    sizes = {{line.split()[0]: int(line.split()[1]) / 1024 for line in rollup.splitlines()[1:]}}
    print(sizes["Private_Clean:"] + sizes["Private_Dirty:"], sizes["Pss:"])
    client.stop_channels()
    for one in (manager, *others):
        kernels.give_back(one, now=True)
"""


def _further(folder: Path) -> list[float]:
    """Return the overhead of each notebook but the first and the last, in seconds.

    The overhead is the time since the end of the previous notebook, less the time in which the kernel executed cells.
    """
    ends, found = None, []
    for name in STEPS:
        notebook = json.loads((folder / f"{name}.ipynb").read_text())
        times = [cell["metadata"].get("execution", {}) for cell in notebook["cells"]]
        busy = sum(
            _seconds(one["iopub.status.busy"], one["iopub.status.idle"]) for one in times if "iopub.status.idle" in one
        )
        end = notebook["metadata"]["papermill"]["end_time"]
        if ends and name != STEPS[-1]:  # the runner waits for the cluster before the last one
            found.append(_seconds(ends, end) - busy)
        ends = end
    return found


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def _until_waiting(command: list[str], place: Place, number: int) -> None:
    """Run a command until 05 has finished in `number` runs, then terminate it."""

    def finished(state: Path) -> bool:
        return json.loads(state.read_text())["steps"].get(CREATE_CLUSTER, {}).get("status") == "finished"

    with started(command, place):
        until(lambda: sum(map(finished, place.runs.glob("*/state.json"))) == number, interval=0.1)


def main() -> None:
    """Run the benchmarks and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=["chains", "many", "nbval", "memory", "waiting", "status"])
    parser.add_argument("--dry", action="store_true", help="Print the table; do not change the page.")
    options = parser.parse_args()
    load = os.getloadavg()
    scratch = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        bench = Bench(scratch)
        with fresh(
            bench.runtime
        ) as place:  # start the parent of the kernels, which exists for five minutes after any run
            place.run(str(BIN / "runbook"), "run", "--run-id", "warm")
        for number in range(options.rounds):
            print(f"round {number + 1}", flush=True)
            for name in [name for name in options.only if name in ("chains", "many", "nbval")]:
                getattr(bench, name)()
        for name in [name for name in options.only if name in ("memory", "waiting", "status")]:
            getattr(bench, name)()
        if options.dry:
            print("\n".join(" | ".join(row) for row in rows(bench.taken, bench.facts)))
        else:
            write(bench.taken, bench.facts, command=f"python tools/bench.py --rounds {options.rounds}", load=load)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
