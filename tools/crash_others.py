"""The modes of the crash matrix in which somebody else acts, at each call that changes something.

account   from this call on, the credentials are those of another account (the chain runs with target aws, its requests
          redirected to the sandbox): nothing of it may reach that account
replaced  a colleague replaces what the call acts on by another resource of the same name, before it is looked at; of what
          the call creates, the name is taken: the colleague's stays as it is. (AWS deletes by name, so that one call's time
          between look and act remains.)
rival     a second folder with the same run id, in which 00 was done, runs the chain, loses the answers to all its creates,
          runs it again and cleans up: nothing of this run may change
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import botocore.session
from botocore.credentials import Credentials, ReadOnlyCredentials
from colleague import Colleague
from crash_attempts import ALIAS, CLEAN_UP_PHASE, CLUSTER, REGION, ROTATION, RUN, RUN_ID, Events, Point
from crash_world import custody_problems, left_over, problems_of_a_rotation, problems_of_resources

from runbook_lib.aws import sandbox_process
from runbook_lib.aws.sandbox_accounts import ACCOUNT_HEADER
from runbook_lib.aws.session import sandbox_session
from runbook_lib.errors import RunbookError
from runbook_lib.run.paths import notebooks_folder
from runbook_lib.run.run import Run
from runbook_lib.run.steps import CREATE_KEY, START
from runbook_lib.steps import ownership

if TYPE_CHECKING:
    from crash_attempts import Attempts, Outcome
    from crash_matrix import Matrix

MODES = ("account", "replaced", "rival")
OTHER_ACCOUNT = "999999999999"
GROUP, SNAPSHOT = f"runbook-{CLUSTER}", f"{CLUSTER}-evidence"
_KEYS = {"mine": "AKIAMATRIX0000000001", "other": "AKIAMATRIX0000000002"}
# What each call acts on; "taken" means the name that it gives. Keys have no name: a key id is never used again.
_ACTS_ON = {
    ("CreateAlias", RUN): "taken alias",
    ("CreateDBSubnetGroup", RUN): "taken subnet group",
    ("CreateSecurityGroup", RUN): "taken security group",
    ("AuthorizeSecurityGroupIngress", RUN): "security group",
    ("CreateDBCluster", RUN): "taken cluster",
    ("CreateDBInstance", RUN): "cluster",
    ("CreateDBClusterSnapshot", RUN): "cluster and instances",
    ("ImportKeyMaterial", ROTATION): "taken pending material",
    ("RotateKeyOnDemand", ROTATION): "pending material",
    ("DeleteDBInstance", CLEAN_UP_PHASE): "instance",
    ("DeleteDBCluster", CLEAN_UP_PHASE): "cluster",
    ("DeleteDBClusterSnapshot", CLEAN_UP_PHASE): "snapshot",
    ("DeleteDBSubnetGroup", CLEAN_UP_PHASE): "subnet group",
    ("DeleteSecurityGroup", CLEAN_UP_PHASE): "security group",
    ("DeleteAlias", CLEAN_UP_PHASE): "alias",
}


def is_change(what: str) -> bool:
    """Return whether the event is a call that changes something."""
    return what.startswith("aws:") and not re.match(r"aws:(Describe|Get|List|Lookup)", what)


def points(phase: str, events: list[str], mode: str) -> Iterator[Point]:
    """Yield the points of one mode in a phase whose unbroken events are given."""
    calls = 0
    for number, what in enumerate(events, 1):
        if is_change(what) and (mode != "replaced" or (what[4:], phase) in _ACTS_ON):
            yield Point(phase, number, what, mode, calls, acts_at=_acts_at(phase, events, number, mode))
        calls += what.startswith("aws:")


def _acts_at(phase: str, events: list[str], number: int, mode: str) -> int:
    """Return the event before which somebody acts: before the call is signed, or before the look that precedes it."""
    if mode == "account":
        return number - 1
    acts_on = "" if mode == "rival" else _ACTS_ON[events[number - 1][4:], phase]
    if not acts_on or acts_on.startswith("taken") or (phase == RUN and acts_on == "security group"):
        return number  # the security group was created a moment ago, and the call names its id
    looks = [other for other in range(1, number) if re.match("aws:(Describe|List)", events[other - 1])]
    return looks[-1]


# Other credentials ------------------------------------------------------------------------------------------------


class Switching(Credentials):
    """Credentials that turn into those of another account while the process lives, as `credential_process` may."""

    def __init__(self) -> None:
        super().__init__(_KEYS["mine"], "secret", None)  # the sandbox checks no signature

    def switch(self) -> None:
        """Be those of the other account from now on."""
        self.access_key = _KEYS["other"]

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        """Return them as they are now."""
        return ReadOnlyCredentials(self.access_key, self.secret_key, self.token)


def redirect_aws(url: str, account: str) -> Switching:
    """Send this process's requests to AWS to the sandbox instead, to the account of the access key that signed them."""
    credentials, accounts = Switching(), {_KEYS["mine"]: account, _KEYS["other"]: OTHER_ACCOUNT}
    botocore.session.Session.get_credentials = lambda *_: credentials
    send = botocore.httpsession.URLLib3Session.send

    def to_the_sandbox(session: Any, request: Any) -> Any:
        authorization = request.headers["Authorization"]
        text = authorization.decode() if isinstance(authorization, bytes) else authorization
        signed_by = re.search(r"Credential=([^/]+)/", text)
        request.headers[ACCOUNT_HEADER] = accounts[signed_by[1]]  # type: ignore[index]
        request.url = urlunsplit((*urlsplit(url)[:2], *urlsplit(request.url)[2:]))
        return send(session, request)

    botocore.httpsession.URLLib3Session.send = to_the_sandbox
    return credentials


# A colleague, and a second folder -----------------------------------------------------------------------------------


class Others:
    """What somebody else does in the process of an attempt. Not counted as its events."""

    def __init__(self, attempts: Attempts, runs: Path, account: str, credentials: Switching | None) -> None:
        self.attempts, self.runs, self.account, self.credentials = attempts, runs, account, credentials

    def act(self, point: Point, events: Events) -> None:
        """Do what the mode of the point says."""
        if point.mode == "account" and self.credentials is not None:
            self.credentials.switch()
        if point.mode == "replaced":
            made = self._replace(_ACTS_ON[point.what[4:], point.phase])
            theirs_of(self.runs).write_text(json.dumps(made))
        if point.mode == "rival":
            child = os.fork()
            if child == 0:
                events.quiet = True
                self._rival()
            os.waitpid(child, 0)

    def _replace(self, what: str) -> dict[str, str]:
        """Replace or take the named resource; return what identifies the colleague's, by kind."""
        sandbox = sandbox_process.identify(self.attempts.url)
        session = sandbox_session(sandbox, region=REGION, account_id=self.account)
        other = Colleague(session.client)
        if what == "taken subnet group":
            other.create_subnet_group(GROUP)
        elif what == "subnet group":
            other.replace_subnet_group(GROUP)
        elif what == "snapshot":
            other.replace_snapshot(SNAPSHOT)
        elif what == "instance":
            name = other.first_instance(CLUSTER)
            return {"instance": other.replace_instance(name)}
        else:
            act = {
                "taken alias": lambda: other.create_alias(ALIAS),
                "alias": lambda: other.move_alias(ALIAS),
                "taken security group": lambda: other.create_security_group(GROUP),
                "security group": lambda: other.replace_security_group(GROUP),
                "taken cluster": lambda: other.create_cluster(CLUSTER, [], []),
                "cluster": lambda: other.replace_cluster(CLUSTER, instances=False),
                "cluster and instances": lambda: other.replace_cluster(CLUSTER),
                "taken pending material": lambda: other.replace_pending_material(ALIAS),
                "pending material": lambda: other.replace_pending_material(ALIAS),
            }[what]
            return {what.removeprefix("taken ").removesuffix(" and instances"): act()}
        return {what.removeprefix("taken "): ""}

    def _rival(self) -> None:
        """Run the chain in the second folder, lose the answers to its creates, run it again, and clean up."""
        runs = rival_of(self.runs)
        with contextlib.suppress(BaseException):
            for again in (False, True):
                with contextlib.suppress(RunbookError):
                    self.attempts.run(runs, self.account, RUN)
                if not again:
                    self._lose_answers(Run.open(RUN_ID, runs_dir=runs))
            self.attempts.run(runs, self.account, CLEAN_UP_PHASE)
        os._exit(0)

    @staticmethod
    def _lose_answers(run: Run) -> None:
        named = {ownership.INSTANCE: [f"{CLUSTER}-1", f"{CLUSTER}-2"], ownership.SNAPSHOT: [SNAPSHOT]}
        for resource in (ownership.KEY, ownership.CLUSTER, ownership.INSTANCE, ownership.SUBNET_GROUP,
                         ownership.SECURITY_GROUP, ownership.SNAPSHOT):  # fmt: skip
            for name in named.get(resource, [""]):
                run.intend(*ownership.requests_of(resource, name)[0])


def rival_of(runs: Path) -> Path:
    """Return the runs folder of the second run."""
    return runs.with_name(f"rival-{runs.name}")


def theirs_of(runs: Path) -> Path:
    """Return the file in which the colleague's resources are noted."""
    return runs.with_name(f"theirs-{runs.name}.json")


def begin_rival(attempts: Attempts, runs: Path, account: str) -> None:
    """Do 00 in the second folder."""
    rival = rival_of(runs)
    rival.mkdir(mode=0o700)
    attempts.run_step(rival, account, notebooks_folder() / f"{START}.ipynb")


# What must hold ---------------------------------------------------------------------------------------------------


def problems(matrix: Matrix, point: Point) -> list[str]:
    """Let somebody act at the point, run the chain again, clean up, and return the problems found."""
    account, runs = matrix.world.enter(matrix.seat), matrix.folder / f"seat-{matrix.seat}"
    target = "aws" if point.mode == "account" else "sandbox"
    for path in (runs, rival_of(runs)):
        shutil.rmtree(path, ignore_errors=True)
    theirs_of(runs).unlink(missing_ok=True)
    runs.mkdir(mode=0o700)
    if point.mode == "rival":
        begin_rival(matrix.attempts, runs, account)
    before = [] if point.phase == RUN else [matrix.attempts.attempt(runs, account, RUN, target=target)]
    calls = len(matrix.world.calls(OTHER_ACCOUNT))
    attempts = [matrix.attempts.attempt(runs, account, point.phase, point=point, target=target)]
    if point.mode == "account" and matrix.world.calls(OTHER_ACCOUNT)[calls:]:
        return [f"reached the other account: {matrix.world.calls(OTHER_ACCOUNT)[calls:]}"]
    if wrong := _wrong_outcome(point, attempts[0], runs):
        return [wrong]
    if attempts[0].how != "done":
        attempts.append(matrix.attempts.attempt(runs, account, point.phase, target=target))
    found = [f"{one.how}: {one.said}" for one in (*before, *attempts) if one.how not in ("done", "stopped")]
    if point.mode == "replaced":
        found += matrix.world.not_as_left(json.loads(theirs_of(runs).read_text()))
        attempts.append(matrix.attempts.attempt(runs, account, CLEAN_UP_PHASE))
        return found + matrix.world.not_as_left(json.loads(theirs_of(runs).read_text()))
    if attempts[-1].how != "done":
        return [*found, f"the last attempt was {attempts[-1].how}: {attempts[-1].said}"]
    if point.phase == RUN:
        key_id = json.loads((runs / RUN_ID / "state.json").read_text())["steps"][CREATE_KEY]["record"]["key_id"]
        report = json.loads((runs / RUN_ID / "report.json").read_text())
        found += [] if report["verified"] else ["report.json does not say that the run is verified"]
        found += problems_of_resources(matrix.world, key_id)
        found += custody_problems(matrix.world, runs / RUN_ID, key_id, matrix.attempts.private)
    if point.phase == ROTATION:
        found += problems_of_a_rotation(matrix.world, runs, matrix.attempts.private, matrix.files[ROTATION])
    if point.phase != CLEAN_UP_PHASE:
        attempts.append(matrix.attempts.attempt(runs, account, CLEAN_UP_PHASE, target=target))
    return [*found, *left_over(matrix.world)]


def _wrong_outcome(point: Point, broken: Outcome, runs: Path) -> str:
    """Return what is wrong with how the attempt ended in which somebody acted; "" for nothing."""
    if point.mode == "account" and (broken.how != "stopped" or OTHER_ACCOUNT not in broken.said):
        return f"the attempt with other credentials was {broken.how}: {broken.said}"
    if point.mode == "replaced" and not theirs_of(runs).exists():
        return f"nothing was replaced; the attempt was {broken.how}: {broken.said}"
    if broken.how not in ("done", "stopped"):
        return f"the attempt was {broken.how}: {broken.said}"
    return ""
