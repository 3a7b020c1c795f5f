"""Break the whole chain at every AWS call and every file write, run it again, and look at what there is.

One uninterrupted run of 00 to 06 and 90 lists the points: each HTTP request to AWS that leaves, and each file that
is opened for writing, renamed, removed, or folder made, under the runs folder. Then, in an account and folder of
its own for each, the chain is broken there in each of these ways, and run again with the same run id:

  kill-before, kill-after   SIGKILL just before and just after the call or write
  interrupt                 Ctrl-C (KeyboardInterrupt) in its place
  drop                      the call takes effect, its answer is lost (botocore's own retries included)
  throttle, error           the call is throttled, or answered with a 500, once: the run must not even stop
  invisible                 what the call made cannot be seen for a second: the run must not even stop
  full                      from this write on the disk is full: nothing can be made or opened for writing
  vanish                    the run's folder is taken away (and given back before the second run)

After each: the run is verified; there is exactly one of everything and nothing else; the custody copy, opened with
the recovery key, is the material in the key (KMS takes it again, and refuses any other); 90 leaves nothing but the
key that waits for its deletion. The cells of the notebooks are executed in forked plain processes, by the runner's
own code, not in kernels: the same cells and library calls, some hundred times faster than through papermill.

    python tools/crash_matrix.py [--sample N] [--mode MODE]... [--point TEXT] [--jobs 2]
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.httpsession
import botocore.loaders
import botocore.session

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from notebook_cells import execute_cells  # noqa: E402

import runbook_kernels  # noqa: E402
from runbook_cli.runner import chain  # noqa: E402
from runbook_lib.aws import create_once, sandbox_process  # noqa: E402
from runbook_lib.aws.sandbox_accounts import account_of_seat  # noqa: E402
from runbook_lib.aws.session import Session, sandbox_session  # noqa: E402
from runbook_lib.errors import RunbookError  # noqa: E402
from runbook_lib.material import key_material, recovery_copies  # noqa: E402
from runbook_lib.run.run import Run  # noqa: E402
from runbook_sandbox.instruments import visibility_delays  # noqa: E402

MODES = ("kill-before", "kill-after", "interrupt", "drop", "throttle", "error", "invisible", "full", "vanish")
OF_CALLS_ONLY = frozenset({"drop", "throttle", "error", "invisible"})
OF_FILES_ONLY = frozenset({"full", "vanish"})
MUST_NOT_STOP = frozenset({"throttle", "error", "invisible"})
RUN, CLEAN_UP = "run", "clean-up"
HIDES = frozenset(call.partition(":")[2] for call in visibility_delays.HIDES)
AWAY = "-away"
_rename = os.rename
RUN_ID, REGION, CLUSTER, ALIAS = "crash", "eu-west-2", "crash-cluster", "alias/crash"
CREATES = {
    "CreateKey": 1, "CreateAlias": 1, "CreateDBSubnetGroup": 1, "CreateSecurityGroup": 1, "CreateDBCluster": 1,
    "CreateDBInstance": 2, "CreateDBClusterSnapshot": 1, "CreateServiceLinkedRole": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """Where the chain is broken: the number of the event, what it is, and how it is broken."""

    phase: str
    number: int
    what: str
    mode: str
    calls_before: int

    def __str__(self) -> str:
        return f"{self.mode} {self.phase} {self.number}: {self.what}"


# One attempt: a forked process -----------------------------------------------------------------------------------


class Events:
    """Counts what changes the world, and breaks the process at one of them."""

    def __init__(self, folder: Path, *, point: Point | None) -> None:
        self.folder = str(folder)
        self.point = point
        self.seen: list[str] = []
        self.full = False

    def around(self, what: str, act: Callable[[], Any]) -> Any:
        """Do `act`; die before or after it when this is the point."""
        self.seen.append(what)
        mine = self.point is not None and len(self.seen) == self.point.number
        mode = self.point.mode if self.point is not None and mine else ""
        if mode == "kill-before":
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "interrupt":
            raise KeyboardInterrupt
        if mode == "vanish" and os.path.isdir(f"{self.folder}/{RUN_ID}"):
            _rename(f"{self.folder}/{RUN_ID}", self.folder + AWAY)
        self.full = self.full or mode == "full"
        if self.full and what.startswith(("file:open", "file:mkdir")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        try:
            return act()
        finally:
            if mode == "kill-after":
                os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Put this around botocore's one way to the network and the ways to change a file."""
        send = botocore.httpsession.URLLib3Session.send
        botocore.httpsession.URLLib3Session.send = lambda session, request: self.around(
            _operation(request), lambda: send(session, request)
        )
        for name in ("open", "replace", "rename", "unlink", "remove", "mkdir", "rmdir", "link"):
            setattr(os, name, self._watched(name, getattr(os, name)))
        sys.addaudithook(self._complete)
        self.known = 0

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def watched(path: Any, *more: Any, **named: Any) -> Any:
            flags = more[0] if more else named.get("flags", 0)
            if not _under(path, self.folder) or (name == "open" and not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
                return real(path, *more, **named)
            self.known += 1
            try:
                return self.around(f"file:{name} {_name(path, self.folder)}", lambda: real(path, *more, **named))
            finally:
                self.known -= 1

        return watched

    def _complete(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Fail loudly when a file under the runs folder is changed by a way that is not watched."""
        if self.known or event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
            return
        writes = event != "open" or bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if writes and _under(arguments[0], self.folder):
            os.write(2, f"not watched: {event} {arguments[0]}\n".encode())
            os._exit(70)


def _under(path: Any, folder: str) -> bool:
    return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(folder)


def _name(path: Any, folder: str) -> str:
    """Return a file's name without what differs from one run to the next."""
    name = os.fspath(path).removeprefix(folder).lstrip("/").removeprefix(f"{RUN_ID}/")
    name = re.sub(r"Import_Parameters_.*\.zip", "Import_Parameters.zip", re.sub(r"\d{8}T\d{6}Z", "TIME", name))
    return re.sub(r"(^|/)(\.writing-.*)\..*$", r"\1\2", name)


def _operation(request: Any) -> str:
    target = request.headers.get("X-Amz-Target")
    if target:
        text = target.decode() if isinstance(target, bytes) else target
        return f"aws:{text.split('.')[-1]}"
    body = request.body.decode() if isinstance(request.body, bytes) else str(request.body or "")
    return "aws:" + next((part[7:] for part in body.split("&") if part.startswith("Action=")), request.url)


class _NoKernels(contextlib.nullcontext):
    """Stands in for the runner's kernels: the cells are executed here."""

    def __enter__(self) -> Any:
        return self

    def start_ahead(self) -> None:
        """Start nothing."""

    def drop(self) -> None:
        """Drop nothing."""


@dataclass
class Outcome:
    """How an attempt ended: "done", "stopped" (a runbook error), "killed", "interrupted" or "crashed"."""

    how: str
    said: str
    events: list[str]


class Attempts:
    """Forks attempts against one sandbox, each in the account and folder of its seat."""

    def __init__(self, url: str, folder: Path, recovery: tuple[bytes, bytes]) -> None:
        self.url = url
        self.folder = folder
        self.private, public = recovery
        self.public = folder / "recovery-public.pem"
        self.public.write_bytes(public)

    def parameters(self, account: str) -> dict[str, Any]:
        """Return the parameters of the run: everything that can be made is made."""
        return {
            "target": "sandbox", "account_id": account, "region": REGION, "key_alias": ALIAS,
            "db_cluster_identifier": CLUSTER, "reader_count": 1, "allowed_cidr": "10.0.0.0/16", "take_snapshot": True,
            "wrapping_key_spec": "RSA_2048", "recovery_public_keys": [str(self.public)],
        }  # fmt: skip

    def run(self, runs: Path, account: str, phase: str) -> None:
        """Run it here, by the runner's own code with notebooks executed in this process."""
        os.environ.update(RUNBOOK_RUNS_DIR=str(runs), RUNBOOK_SANDBOX_ENDPOINT=self.url, RUNBOOK_ATTENDED="0")
        runbook_kernels.start = lambda: None
        chain.kernels = _NoKernels
        chain.execute_notebook = lambda source, output, given, *_, **__: execute_cells(source, output, given)
        chain.Chain._prepare_session = lambda _: None  # a thread beside 05: here it would be in the same process
        with contextlib.redirect_stdout(io.StringIO()):
            if phase == RUN:
                chain.run_chain(self.parameters(account), run_id=RUN_ID, runs_dir=runs, say=str)
            else:
                run = Run.open(RUN_ID, runs_dir=runs)
                chain.clean_up(run, {"confirm_db_cluster_identifier": CLUSTER, "exercises": False}, say=str)

    def attempt(self, runs: Path, account: str, phase: str, *, point: Point | None = None) -> Outcome:
        """Run 00 to 06, or 90, or what is left of it, in a process of its own."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            self._in_the_child(runs, account, phase, point, writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as told:
            said = told.read().decode(errors="replace")
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return Outcome("killed", said, [])
        how = {0: "done", 1: "stopped", 2: "interrupted"}.get(os.WEXITSTATUS(status), "crashed")
        return Outcome(how, "" if how == "done" else said, said.splitlines() if how == "done" else [])

    def _in_the_child(self, runs: Path, account: str, phase: str, point: Point | None, writer: int) -> None:
        code, said = 3, ""
        try:
            runs.mkdir(mode=0o700, exist_ok=True)
            sleep, longest = time.sleep, 1.0 if point is not None and point.mode == "invisible" else 0.02
            time.sleep = lambda seconds: sleep(min(seconds, longest))
            events = Events(runs, point=point)
            events.install()
            self.run(runs, account, phase)
            code, said = 0, "\n".join(events.seen)
            if point is not None and point.mode not in OF_CALLS_ONLY and len(events.seen) < point.number:
                code, said = 3, f"the point was not reached; there were {len(events.seen)}"
        except RunbookError as error:
            code, said = 1, str(error)
        except KeyboardInterrupt:
            code, said = 2, "interrupted"
        except BaseException:  # noqa: BLE001 - told to the parent, then the process ends
            said = traceback.format_exc()
        finally:
            os.write(writer, said.encode()[-60_000:])
            os._exit(code)


# What must be true afterwards ----------------------------------------------------------------------------------------


class World:
    """One account of the sandbox, looked at with plain clients."""

    def __init__(self, url: str) -> None:
        self.sandbox = sandbox_process.identify(url)
        self.session = sandbox_session(self.sandbox, region=REGION, account_id="")
        self.account = ""

    def enter(self, seat: int) -> str:
        """Empty the account of a seat and look at it from here on."""
        sandbox_process.call(self.sandbox.url, f"/runbook/seats/{seat}/reset", body={}, method="POST")
        self.account = self.session._expected_account = account_of_seat(seat)
        return self.account

    def order(self, point: Point) -> None:
        """Have the sandbox break the call of this point."""
        kind = {"drop": "drop_after"}.get(point.mode, point.mode)
        fault = {"operation": "*", "kind": kind, "account": self.account, "after": point.calls_before}
        body = fault | ({"seconds": 1.0} if kind == "invisible" else {})
        sandbox_process.call(self.sandbox.url, "/runbook/faults", body=body, method="POST")

    def made(self) -> dict[str, list[str]]:
        """Return the name of everything of the account that the runbook can make."""
        kms, rds, ec2 = (self.session.client(name) for name in ("kms", "rds", "ec2"))
        keys = [key["KeyId"] for key in kms.list_keys()["Keys"]]
        described = [kms.describe_key(KeyId=key)["KeyMetadata"] for key in keys]
        roles = self.session.client("iam").list_roles()["Roles"]
        names = lambda rows, field: sorted(row[field] for row in rows)  # noqa: E731
        return {
            "keys": [f"{one['KeyId']} {one['KeyState']}" for one in described if one["KeyManager"] == "CUSTOMER"],
            "aliases": [one["AliasName"] for one in kms.list_aliases()["Aliases"]
                        if not one["AliasName"].startswith("alias/aws/")],
            "subnet groups": names(rds.describe_db_subnet_groups()["DBSubnetGroups"], "DBSubnetGroupName"),
            "security groups": [one["GroupName"] for one in ec2.describe_security_groups()["SecurityGroups"]
                                if one["GroupName"] != "default"],
            "clusters": names(rds.describe_db_clusters()["DBClusters"], "DBClusterIdentifier"),
            "instances": names(rds.describe_db_instances()["DBInstances"], "DBInstanceIdentifier"),
            "snapshots": [one["DBClusterSnapshotIdentifier"] for one in
                          rds.describe_db_cluster_snapshots(SnapshotType="manual")["DBClusterSnapshots"]],
            "secrets": [one["OwningService"] for one in
                        self.session.client("secretsmanager").list_secrets()["SecretList"]],
            "roles": names(roles, "RoleName"),
        }  # fmt: skip

    def creates(self) -> dict[str, int]:
        """Return how often each create took effect."""
        found = sandbox_process.call(self.sandbox.url, f"/runbook/calls?account={self.account}", method="GET")["calls"]
        return dict(
            Counter(c["operation"] for c in found if c["operation"] in CREATES and c["outcome"]["status"] < 400)
        )


def problems_of_a_run(world: World, runs: Path, private: bytes, files: frozenset[str]) -> Iterator[str]:
    """Say what is not as it must be after 00 to 06."""
    state, report = (json.loads((runs / RUN_ID / name).read_text()) for name in ("state.json", "report.json"))
    if not report["verified"]:
        yield "report.json does not say that the run is verified"
    unfinished = [name for name, section in state["steps"].items() if section["status"] != "finished"]
    if unfinished or len(state["steps"]) != 7:
        yield f"not finished: {unfinished}"
    made, key_id = world.made(), state["steps"]["01_create_key"]["record"]["key_id"]
    expected = {
        "keys": [f"{key_id} Enabled"], "aliases": [ALIAS], "subnet groups": [f"runbook-{CLUSTER}"],
        "security groups": [f"runbook-{CLUSTER}"], "clusters": [CLUSTER],
        "instances": [f"{CLUSTER}-1", f"{CLUSTER}-2"], "snapshots": [f"{CLUSTER}-evidence"], "secrets": ["rds"],
        "roles": ["AWSServiceRoleForRDS", "Admin"],
    }  # fmt: skip
    yield from (
        f"{what}: expected {expected[what]}, found {made[what]}" for what in made if expected[what] != made[what]
    )
    if world.creates() != CREATES:
        yield f"creates that took effect: {world.creates()}"
    ec2 = world.session.client("ec2").describe_security_groups(
        Filters=[{"Name": "group-name", "Values": [f"runbook-{CLUSTER}"]}]
    )
    if len(ec2["SecurityGroups"][0]["IpPermissions"]) != 1:
        yield "the security group does not let in exactly the network asked for"
    if (there := _files(runs)) != files:
        yield f"files: left over {sorted(there - files)}, missing {sorted(files - there)}"
    yield from _custody_problems(world, runs / RUN_ID, key_id, private)


def _files(runs: Path) -> frozenset[str]:
    """Return the names under the runs folder, without what differs by time or attempt."""
    names = set()
    for path in runs.rglob("*"):
        name = str(path.relative_to(runs))
        if "/notebooks/" in name or "/reports/" in name:
            continue
        names.add("Import_Parameters.zip" if path.name.startswith("Import_Parameters_") else name)
    return frozenset(names)


def _custody_problems(world: World, folder: Path, key_id: str, private: bytes) -> Iterator[str]:
    """Open the custody copy and have KMS judge it: it takes the key's own material again, and refuses any other."""
    copies = sorted(folder.glob("KeyMaterial.recovery-*.bin"))
    if len(copies) != 1:
        yield f"custody copies: {[path.name for path in copies]}"
        return
    material = recovery_copies.open_copy(copies[0].read_bytes(), recovery_copies.load_recovery_private_key(private))
    for what, brought, taken in (
        ("the custody copy", material, True),
        ("other", key_material.KeyMaterial.generate(), False),
    ):
        if _is_taken(world, key_id, brought) is not taken:
            yield f"{what} is {'refused' if taken else 'taken'} by KMS as the material of the key"


def _is_taken(world: World, key_id: str, material: key_material.KeyMaterial) -> bool:
    kms = world.session.client("kms")
    pair = kms.get_parameters_for_import(
        KeyId=key_id, WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_2048"
    )
    sealed = key_material.encrypt_key_material(
        material, wrapping_public_key=pair["PublicKey"], wrapping_algorithm="RSAES_OAEP_SHA_256"
    )
    try:
        kms.import_key_material(
            KeyId=key_id, ImportToken=pair["ImportToken"], EncryptedKeyMaterial=sealed,
            ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE",
        )  # fmt: skip
    except kms.exceptions.IncorrectKeyMaterialException:
        return False
    return True


def problems_of_a_clean_up(world: World, runs: Path) -> Iterator[str]:
    """Say what is left after 90 besides the key that waits for its deletion."""
    state = json.loads((runs / RUN_ID / "state.json").read_text())
    key_id = state["steps"]["01_create_key"]["record"]["key_id"]
    expected = {"keys": [f"{key_id} PendingDeletion"], "roles": ["AWSServiceRoleForRDS", "Admin"]}
    for what, names in world.made().items():
        if names != expected.get(what, []):
            yield f"after 90, {what}: {names}"
    if state["steps"]["90_clean_up"]["status"] != "finished":
        yield "90 has not finished"


# The matrix ------------------------------------------------------------------------------------------------------------


class Matrix:
    """The points of the chain, and what becomes of it at each."""

    def __init__(self, url: str, folder: Path, *, seat: int) -> None:
        self.folder = folder
        self.attempts = Attempts(url, folder, recovery_copies.make_training_recovery_key())
        self.world = World(url)
        self.seat = seat
        self.files: frozenset[str] = frozenset()

    def warm_up(self) -> None:
        """Run once in this process, so that those forked from it have read every service model and template."""
        loader = botocore.loaders.Loader()
        botocore.session.create_loader = lambda *_: loader
        account, runs = self.world.enter(self.seat), self.folder / "warm"
        runs.mkdir()
        for phase in (RUN, CLEAN_UP):
            self.attempts.run(runs, account, phase)
        shutil.rmtree(runs)

    def points(self, modes: tuple[str, ...]) -> list[Point]:
        """Run once without breaking anything; return every point."""
        account, runs = self.world.enter(self.seat), self.folder / "whole"
        found = []
        for phase in (RUN, CLEAN_UP):
            whole = self.attempts.attempt(runs, account, phase)
            if whole.how != "done":
                raise SystemExit(f"the chain does not run through unbroken: {whole.how}\n{whole.said}")
            if phase == RUN:
                self.files = _files(runs)
                problems = list(problems_of_a_run(self.world, runs, self.attempts.private, self.files))
            else:
                problems = list(problems_of_a_clean_up(self.world, runs))
            if problems:
                raise SystemExit(f"unbroken, and still: {problems}")
            calls = 0
            for number, what in enumerate(whole.events, 1):
                is_call = what.startswith("aws:")
                for mode in modes:
                    if (mode in OF_CALLS_ONLY and not is_call) or (mode in OF_FILES_ONLY and is_call):
                        continue
                    if mode == "full" and not what.startswith(("file:open", "file:mkdir")):
                        continue
                    if mode == "invisible" and what.removeprefix("aws:") not in HIDES:
                        continue
                    found.append(Point(phase, number, what, mode, calls))
                calls += is_call
        shutil.rmtree(runs)
        return found

    def problems(self, point: Point) -> list[str]:
        """Break the chain at the point, run it again, and say what is not as it must be."""
        account = self.world.enter(self.seat)
        runs = self.folder / f"seat-{self.seat}"
        away = Path(f"{runs}{AWAY}")
        for folder in (runs, away):
            shutil.rmtree(folder, ignore_errors=True)
        runs.mkdir(mode=0o700)
        if point.phase == CLEAN_UP and (whole := self.attempts.attempt(runs, account, RUN)).how != "done":
            return [f"the run before it {whole.how}: {whole.said}"]
        if point.mode in OF_CALLS_ONLY:
            self.world.order(point)
        broken = self.attempts.attempt(runs, account, point.phase, point=point)
        expected = {"kill-before": ("killed",), "kill-after": ("killed",), "interrupt": ("interrupted",),
                    "full": ("stopped",)}  # fmt: skip
        allowed = expected.get(point.mode, ("done",) if point.mode in MUST_NOT_STOP else ("done", "stopped"))
        if broken.how not in allowed:
            return [f"broken, it {broken.how}: {broken.said}"]
        if (away / "state.json").exists():  # without it nothing had begun
            if made := sorted(path.name for path in (runs / RUN_ID).glob("*") if path.name != ".lock"):
                return [f"without its folder it made it anew, with {made}"]
            shutil.rmtree(runs / RUN_ID, ignore_errors=True)  # taken away just before it was locked
            away.rename(runs / RUN_ID)
        if broken.how != "done" and (again := self.attempts.attempt(runs, account, point.phase)).how != "done":
            return [f"run again, it {again.how}: {again.said}"]
        if point.phase == RUN:
            found = list(problems_of_a_run(self.world, runs, self.attempts.private, self.files))
            if found:
                return found
            if (clean := self.attempts.attempt(runs, account, CLEAN_UP)).how != "done":
                return [f"90 {clean.how}: {clean.said}"]
        found = list(problems_of_a_clean_up(self.world, runs))
        shutil.rmtree(runs)
        return found


def chosen(points: list[Point], *, sample: int, text: str) -> list[Point]:
    """Return the points to try: those that hold `text`, and of them `sample`, the same each time."""
    kept = [point for point in points if text in str(point)]
    if not sample or sample >= len(kept):
        return kept
    return sorted(random.Random(1).sample(kept, sample), key=kept.index)  # noqa: S311 - a choice of tests


def work(matrix: Matrix, points: list[Point], *, job: int, tell: int) -> None:
    """Try every point in folders and an account of this job's own, and tell one line of JSON for each."""
    matrix.folder, matrix.seat = matrix.folder / f"job-{job}", job + 2
    matrix.folder.mkdir()
    for point in points:
        try:
            found = matrix.problems(point)
        except Exception:  # noqa: BLE001 - told as the point's own failure
            found = [traceback.format_exc()]
        os.write(tell, (json.dumps([str(point), found]) + "\n").encode())


def serve_sandbox() -> None:
    """Serve a sandbox that makes its RSA keys once; they take most of the time and are not what is tried."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    from runbook_sandbox.kms import wrapping_keys
    from runbook_sandbox.server import server

    made = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(4)]

    def generate(_: str) -> rsa.RSAPrivateKey:
        made.append(made.pop(0))
        return made[0]

    wrapping_keys._generate = generate
    server.serve(announce=lambda url: print(url, flush=True))


def main() -> int:
    """Try the points asked for; say how many there are and which fail. Exit 1 when one does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sample", type=int, default=0, help="so many points, the same ones each time")
    parser.add_argument("--mode", action="append", choices=MODES, help="only this way of breaking; may be repeated")
    parser.add_argument("--point", default="", help="only points that hold this text")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--list", action="store_true", help="say the points and try none")
    parser.add_argument(
        "--unsafe", choices=("retries", "intents", "patience"), help="take a guard away: the matrix must then fail"
    )
    parser.add_argument("--sandbox", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.sandbox:
        serve_sandbox()
        return 0
    take_away(asked.unsafe or "")
    folder = Path(tempfile.mkdtemp(prefix="crash-matrix-"))
    sandbox = subprocess.Popen([sys.executable, __file__, "--sandbox"], stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        url = sandbox.stdout.readline().strip()  # type: ignore[union-attr]
        sandbox_process.call(url, "/runbook/progression", body={"mode": "immediate"}, method="POST")
        return try_points(url, folder, asked)
    finally:
        sandbox.terminate()
        sandbox.wait()
        shutil.rmtree(folder, ignore_errors=True)


def try_points(url: str, folder: Path, asked: argparse.Namespace) -> int:
    """Try the points with as many processes as asked for; return the exit code."""
    matrix = Matrix(url, folder, seat=1)
    matrix.warm_up()
    points = matrix.points(tuple(asked.mode or MODES))
    tried = chosen(points, sample=asked.sample, text=asked.point)
    if asked.list:
        print("\n".join(map(str, tried)))
        return 0
    began, failed = time.monotonic(), 0
    reader, writer = os.pipe()
    jobs = max(1, min(asked.jobs, len(tried)))
    for job in range(jobs):
        if os.fork() == 0:
            work(matrix, tried[job::jobs], job=job, tell=writer)
            os._exit(0)
    os.close(writer)
    done = 0
    with os.fdopen(reader) as told:
        for line in told:
            name, found = json.loads(line)
            done, failed = done + 1, failed + bool(found)
            if found:
                print(f"FAILED {name}\n  " + "\n  ".join(found), flush=True)
            elif done % 100 == 0:
                print(f"{done} of {len(tried)} points, {failed} failed", flush=True)
    for _ in range(jobs):
        os.wait()
    by_mode = ", ".join(f"{number} {mode}" for mode, number in Counter(point.mode for point in tried).items())
    print(f"{done} of {len(points)} points tried ({by_mode}) in {time.monotonic() - began:.0f} s: {failed} failed")
    return 1 if failed or done != len(tried) else 0


def take_away(guard: str) -> None:
    """Take one of the runbook's guards away, to see that the matrix notices."""
    if guard == "retries":
        client = Session.client
        Session.client = lambda self, service, *, region="", retry=True: client(self, service, region=region)
    if guard == "intents":
        Run.is_unclear = Run.was_sent = lambda *_: False
    if guard == "patience":
        create_once._PATIENCE = (0.0,)


if __name__ == "__main__":
    sys.exit(main())
