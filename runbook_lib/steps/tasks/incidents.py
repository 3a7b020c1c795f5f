"""Incidents, for the end of a class: a verified run of the sandbox is broken, diagnosed with the runbook's tools, and fixed.

`runbook incident NAME` makes the run and calls `happen`, and on the next call `look`, which checks the account and the run
folder. A job of another team, the role ReleaseJob, acts here with credentials of its own, so that CloudTrail names it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from runbook_lib.aws import kms, rds, sandbox_process
from runbook_lib.aws.session import Session
from runbook_lib.checks import Checks
from runbook_lib.errors import RunbookError, SandboxUnavailable
from runbook_lib.files import private_folder, utc_stamp, write_whole
from runbook_lib.inputs.recovery import RecoverInputs
from runbook_lib.material import recovery_keys
from runbook_lib.material.key_material import KeyMaterial
from runbook_lib.material.open_recovery_copy import check_opens
from runbook_lib.material.recovery_copies import seal
from runbook_lib.policies.evaluate import allows
from runbook_lib.run import learning
from runbook_lib.run.clusters import finished_clusters
from runbook_lib.run.records import ClusterRecord, KeyRecord, MaterialRecord
from runbook_lib.run.run import Run
from runbook_lib.run.steps import IMPORT_KEY_MATERIAL
from runbook_lib.steps import recover
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.tasks.practice import Practice, Scene, cluster_is_the_same, key_is_usable
from runbook_lib.steps.tasks.work import Verdict
from runbook_lib.tables import Text

JOB, SAFE = "ReleaseJob", "safe"
_DEPOSITS = ("card-1", "card-2", "card-3")


@dataclass(frozen=True)
class Incident:
    """An incident: the page that the person on call gets, three hints, what happens, and what is right afterwards."""

    title: str
    page: str
    hints: tuple[str, str, str]
    happen: Callable[[Stage], Scene]
    check: Callable[[Stage, Scene, Checks], None]


class Stage:
    """The run of an incident, its account, and the clock of its sandbox, which is moved only where nobody shares it."""

    def __init__(self, run: Run, session: Session, *, own_sandbox: bool) -> None:
        self.run, self.session, self.own_sandbox = run, session, own_sandbox
        self.key = KeyRecord.from_run(run)
        self.cluster: ClusterRecord = finished_clusters(run)[0]
        self.practice = Practice(session, run.path / SAFE)

    @property
    def scene(self) -> Scene:
        """What every check needs: the cluster that must survive."""
        return {"resource": self.cluster.db_cluster_resource_id}

    def set_clock(self, moment: datetime) -> None:
        """Move the sandbox's clock, if it is this learner's own."""
        if self.own_sandbox:
            self._command("/runbook/clock", {"now": moment.isoformat()})
            self.session.client("sts").get_caller_identity()  # `now` is read from the last answer

    def inject(self, operation: str, code: str) -> None:
        """Let the next call of an operation in this account fail once with an error code, where that is permitted."""
        body = {
            "operation": operation,
            "kind": "error",
            "code": code,
            "status": 400,
            "account": self.session.account_id,
        }
        self._command("/runbook/faults", body)

    def clear_faults(self) -> None:
        """Remove the faults of this account: one that an earlier incident left would meet this one."""
        self._command(f"/runbook/faults?account={self.session.account_id}", None, method="DELETE")

    def _command(self, path: str, body: dict[str, Any] | None, *, method: str = "POST") -> None:
        # In a class the trainer decides about clock and faults; the incident is the same without.
        with suppress(SandboxUnavailable):
            sandbox_process.call(self.session.endpoint_url, path, body=body, method=method)

    def next_at(self, hour: int, minute: int) -> datetime:
        """Return the next time by the sandbox's clock when it is hour:minute UTC."""
        now = self.session.now()
        found = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
        return found if found > now else found + timedelta(days=1)

    def job(self, *actions: str) -> Any:
        """Return a KMS client of the job's role, which the key policy allows these actions from now on."""
        role = self.practice.role(JOB)
        client = self.session.client("kms")
        policy = json.loads(client.get_key_policy(KeyId=self.key.key_id, PolicyName="default")["Policy"])
        policy["Statement"].append(
            {"Sid": JOB, "Effect": "Allow", "Principal": {"AWS": role}, "Resource": "*",
             "Action": ["kms:DescribeKey", *(f"kms:{action}" for action in actions)]}
        )  # fmt: skip
        client.put_key_policy(KeyId=self.key.key_id, PolicyName="default", Policy=json.dumps(policy))
        given = self.session.client("sts").assume_role(RoleArn=role, RoleSessionName="deploy-1138")["Credentials"]
        return self.session.as_caller(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]).client(
            "kms"
        )

    def wait_until_dark(self) -> None:
        """Wait until the cluster has noticed that it lost its key."""
        self.practice.until(self.cluster.db_cluster_identifier, recover.INACCESSIBLE)

    def job_may(self, action: str) -> str:
        """Return whether the key policy still allows the job an action."""
        policy = self.session.client("kms").get_key_policy(KeyId=self.key.key_id, PolicyName="default")["Policy"]
        principal = f"arn:{self.session.partition}:iam::{self.session.account_id}:role/{JOB}"
        return "allowed" if allows(json.loads(policy), principal=principal, action=f"kms:{action}") else "refused"


# What is checked in more than one incident --------------------------------------------------------------------------


def _works_again(stage: Stage, scene: Scene, checks: Checks) -> None:
    key_is_usable(checks, kms.describe(stage.session, stage.key.key_id) or {})
    cluster_is_the_same(checks, stage.practice.found(stage.cluster.db_cluster_identifier), scene)
    found = rds.instances_of(stage.session, stage.cluster.db_cluster_identifier)
    states = sorted({one["DBInstanceStatus"] for one in found})
    checks.equal("its instances are available", ["available"], states, source="rds:DescribeDBInstances")


# The cluster that went dark -------------------------------------------------------------------------------------------


def _goes_dark(stage: Stage) -> Scene:
    job = stage.job("DeleteImportedKeyMaterial")
    stage.set_clock(stage.next_at(9, 12))
    at = f"{stage.session.now():%H:%M}"
    job.delete_imported_key_material(KeyId=stage.key.key_id)
    stage.wait_until_dark()
    stage.set_clock(stage.session.now() + timedelta(minutes=23))
    # A change of a key needs some time until RDS sees it: the first start is refused.
    stage.inject("rds:StartDBCluster", "KMSKeyNotAccessibleFault")
    return {**stage.scene, "at": at}


def _dark_is_fixed(stage: Stage, scene: Scene, checks: Checks) -> None:
    _works_again(stage, scene, checks)
    by_job = stage.job_may("DeleteImportedKeyMaterial")
    checks.equal("what caused it cannot do it again", "refused", by_job, source="kms:GetKeyPolicy")


DARK = Incident(
    "The cluster that went dark",
    "Since {at} UTC applications cannot connect to {cluster}. Nobody has changed the database. Find out what happened, and who did "
    "it; make the same cluster available again; and make sure that it cannot be done again from there.",
    (
        "What does RDS say about the cluster, and what does DescribeKey say about its key? CloudTrail has the last hour.",
        "Somebody deleted the key material. This run has a backup of it, and `runbook recover` imports it. What RDS refuses in the "
        "first minute after a change of the key, it may accept in the next.",
        "`runbook recover {run}`, a second time if the start was refused. The caller in CloudTrail is a role: look for it in the "
        "key policy, and remove its statement (PutKeyPolicy).",
    ),
    _goes_dark, _dark_is_fixed,
)  # fmt: skip


# The backup that is of the wrong material ------------------------------------------------------------------------------


def _holder(stage: Stage) -> str:
    return MaterialRecord.from_run(stage.run).custody.holders[0].file


def _eve_of_expiry(stage: Stage) -> Scene:
    stage.set_clock(stage.next_at(16, 0))
    ends = (stage.session.now() + timedelta(hours=20)).replace(microsecond=0)
    step = OpenStep(IMPORT_KEY_MATERIAL, stage.run, stage.session)
    recover.apply(step, recover.plan(step, RecoverInputs.check({"valid_to": ends.isoformat()})))
    private = recovery_keys.load_recovery_private_key(
        stage.run.read(recover.training_keys(stage.run)[0].rpartition("/")[2])
    )
    folder, right = private_folder(stage.run.path / SAFE), stage.run.read(_holder(stage))
    for number, name in enumerate(_DEPOSITS):
        with KeyMaterial.generate() as material:
            (other,) = seal(material, [private.public_key()], label=name)
        write_whole(folder / f"{name}.bin", right if number == 1 else other.content)
        stage.run.write(_holder(stage), other.content)
    return stage.scene


def _expiry_is_fixed(stage: Stage, scene: Scene, checks: Checks) -> None:
    _works_again(stage, scene, checks)
    found = kms.describe(stage.session, stage.key.key_id) or {}
    left = found["ValidTo"] - stage.session.now() if "ValidTo" in found else None
    checks.holds(
        "the material does not expire within 30 days", "no expiry, or more than 30 days",
        "no expiry" if left is None else f"{left / timedelta(days=1):.1f} days",
        lambda _: found.get("KeyState") == "Enabled" and (left is None or left > timedelta(days=30)), source="kms:DescribeKey",
    )  # fmt: skip
    custody = MaterialRecord.from_run(stage.run).custody
    provided = recover.sources(stage.run, RecoverInputs.check({}))
    try:
        value = check_opens(custody, read=stage.run.read, sources=provided)
    except RunbookError as error:
        value = str(error)
    checks.equal("the run folder has a backup of this material", custody.key_check_value, value, source=_holder(stage))


EXPIRY = Incident(
    "The wrong backup, on the eve of an expiry",
    "The key material of {cluster} expires tomorrow, and the cluster stops then. The colleague who should have extended it writes: "
    "`runbook recover {run} --does-not-expire` is refused. She leaves three deposits of the same safe in {safe}. Extend the key "
    "material, and leave the run folder with a backup that can be used next time.",
    (
        "`runbook recover {run} --check` opens the backup of the run folder. What does it compare, and what does not match?",
        "The custody record names the key check value of the right material. Each deposit opens with the same private key.",
        "Copy each deposit over the backup that custody.json names, then `runbook recover {run} --check`: one has the recorded "
        "value. With that one in place, `runbook recover {run} --does-not-expire`.",
    ),
    _eve_of_expiry, _expiry_is_fixed,
)  # fmt: skip


# The deletion that somebody scheduled ------------------------------------------------------------------------------------


def _deletion_is_scheduled(stage: Stage) -> Scene:
    job = stage.job("ScheduleKeyDeletion", "DisableKey")
    job.schedule_key_deletion(KeyId=stage.key.key_id, PendingWindowInDays=7)
    stage.wait_until_dark()
    stage.set_clock(stage.session.now() + timedelta(days=5))
    return stage.scene


def _deletion_is_undone(stage: Stage, scene: Scene, checks: Checks) -> None:
    _works_again(stage, scene, checks)
    named = kms.describe(stage.session, stage.key.key_alias) or {}
    checks.equal(
        "the alias names the same key", stage.key.key_id, named.get("KeyId", "no key"), source="kms:DescribeKey"
    )
    by_job = [stage.job_may(action) for action in ("ScheduleKeyDeletion", "DisableKey")]
    checks.equal("what caused it cannot do it again", ["refused"] * 2, by_job, source="kms:GetKeyPolicy")


DELETION = Incident(
    "The deletion that somebody scheduled",
    "You come back from leave. {cluster} is inaccessible, and the ticket says that nobody complained until today. Find out what "
    "happened, when it becomes final, and who did it. Make the same cluster available again under the same key, and make sure "
    "that it cannot be done again from there.",
    (
        "DescribeKey has a date. What is lost on that day, although you have the key material?",
        "CancelKeyDeletion is not the whole way back: look at the state of the key afterwards, and then at the cluster.",
        "CancelKeyDeletion, EnableKey, StartDBCluster, each once the one before has taken effect. Then remove the statement of the "
        "caller in CloudTrail from the key policy (PutKeyPolicy).",
    ),
    _deletion_is_scheduled, _deletion_is_undone,
)  # fmt: skip

INCIDENTS = {"dark": DARK, "expiry": EXPIRY, "deletion": DELETION}


def happen(name: str, stage: Stage) -> Text:
    """Let an incident happen to a verified run; return the page for the person on call."""
    stage.clear_faults()
    scene = INCIDENTS[name].happen(stage)
    learning.note_task(stage.run, f"incident {name}", scene=scene, began=utc_stamp())
    return page(name, stage)


def is_staged(name: str, run: Run) -> bool:
    """Return whether the incident has happened to this run."""
    return "scene" in learning.tasks(run).get(f"incident {name}", {})


def page(name: str, stage: Stage, *, hint: bool = False) -> Text:
    """Return the page with the hints that were used; with `hint`, one more, which is counted."""
    incident = INCIDENTS[name]
    known = learning.tasks(stage.run).get(f"incident {name}", {})
    used = int(known.get("hints", 0))
    if hint:
        used = min(used + 1, len(incident.hints))
        learning.note_task(stage.run, f"incident {name}", hints=used)
    hints = [f"Hint {number} of 3: {text}" for number, text in enumerate(incident.hints[:used], 1)]
    words = {
        **known.get("scene", {}),
        "cluster": stage.cluster.db_cluster_identifier,
        "run": stage.run.run_id,
        "safe": str(stage.run.path / SAFE),
    }
    return Text(incident.title, "\n\n".join([incident.page, *hints]).format_map(words))


def look(name: str, stage: Stage) -> Verdict:
    """Compare the account and the run folder with what is right after the fix; keep the look, and when it was done."""
    known = learning.tasks(stage.run)[f"incident {name}"]
    checks = Checks(INCIDENTS[name].title)
    INCIDENTS[name].check(stage, known["scene"], checks)
    values: dict[str, Any] = {"looks": int(known.get("looks", 0)) + 1}
    if checks.passed and not known.get("done"):
        values["done"] = utc_stamp()
    return Verdict(checks, learning.note_task(stage.run, f"incident {name}", **values))
