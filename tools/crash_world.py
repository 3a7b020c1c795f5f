"""What must hold after an attempt of the crash matrix: the resources, the files, the custody copy."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from colleague import INSTANCE_CLASS
from crash_attempts import ALIAS, CLUSTER, REGION, RUN_ID, Point

from runbook_lib.aws import sandbox_process
from runbook_lib.aws.sandbox_accounts import account_of_seat
from runbook_lib.aws.session import sandbox_session
from runbook_lib.material import key_material, recovery_copies, recovery_keys
from runbook_lib.run.steps import CLEAN_UP, CREATE_KEY, IMPORT_KEY_MATERIAL, ROTATE_KEY_MATERIAL, chain

KEY_AND_CHECK_VALUE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[0-9a-f]{6}")
CREATES = {
    "CreateKey": 1, "CreateAlias": 1, "CreateDBSubnetGroup": 1, "CreateSecurityGroup": 1, "CreateDBCluster": 1,
    "CreateDBInstance": 2, "CreateDBClusterSnapshot": 1, "CreateServiceLinkedRole": 1,
}  # fmt: skip


class World:
    """One account of the sandbox, inspected with plain clients."""

    def __init__(self, url: str) -> None:
        self.sandbox = sandbox_process.identify(url)
        self.session = sandbox_session(self.sandbox, region=REGION, account_id="")
        self.account = ""

    def enter(self, seat: int) -> str:
        """Empty the account of a seat and use it from now on; return its id."""
        sandbox_process.call(self.sandbox.url, f"/runbook/seats/{seat}/reset", body={}, method="POST")
        self.account = self.session._expected_account = account_of_seat(seat)
        return self.account

    def inject(self, point: Point) -> None:
        """Inject the fault of this point into the sandbox."""
        kind = {"drop": "drop_after"}.get(point.mode, point.mode)
        fault = {"operation": "*", "kind": kind, "account": self.account, "after": point.calls_before}
        body = fault | ({"seconds": 1.0} if kind == "invisible" else {})
        sandbox_process.call(self.sandbox.url, "/runbook/faults", body=body, method="POST")

    def resources(self) -> dict[str, list[str]]:
        """Return the names of all resources in the account of the kinds that the runbook creates."""
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

    def calls(self, account: str) -> list[str]:
        """Return what was called in an account, but for the question which account it is."""
        found = sandbox_process.call(self.sandbox.url, f"/runbook/calls?account={account}", method="GET")["calls"]
        return [call["operation"] for call in found if call["operation"] != "GetCallerIdentity"]

    def not_as_left(self, theirs: dict[str, str]) -> list[str]:
        """Return what is not as the colleague left it: `theirs` holds the identity of the resource, by kind."""
        kms, rds, ec2 = (self.session.client(name) for name in ("kms", "rds", "ec2"))
        clusters = {one["DbClusterResourceId"]: one for one in rds.describe_db_clusters()["DBClusters"]}
        described = rds.describe_db_instances()["DBInstances"]
        instances = [one["DbiResourceId"] for one in described]
        theirs_only = {one["DBInstanceIdentifier"] for one in described if one["DBInstanceClass"] == INSTANCE_CLASS}
        snapshots = rds.describe_db_cluster_snapshots(SnapshotType="manual")["DBClusterSnapshots"]
        subnet_groups = {one["DBSubnetGroupDescription"] for one in rds.describe_db_subnet_groups()["DBSubnetGroups"]}
        groups = {one["GroupId"]: one for one in ec2.describe_security_groups()["SecurityGroups"]}
        targets = {one["AliasName"]: one.get("TargetKeyId") for one in kms.list_aliases()["Aliases"]}
        [(kind, identity)] = theirs.items()
        untouched = {
            "cluster": identity in clusters
            and not [one for one in snapshots if one["DbClusterResourceId"] == identity]
            and all(one["DBInstanceIdentifier"] in theirs_only for one in clusters[identity]["DBClusterMembers"]),
            "instance": identity in instances,
            "snapshot": f"{CLUSTER}-evidence" in [one["DBClusterSnapshotIdentifier"] for one in snapshots],
            "subnet group": "a colleague's" in subnet_groups,
            "security group": identity in groups and not groups[identity]["IpPermissions"],
            "alias": targets.get(ALIAS) == identity,
            "pending material": "PENDING_ROTATION" in self.materials(targets.get(ALIAS) or "", identity),
        }
        return [] if untouched[kind] else [f"the colleague's {kind} {identity} is not as it was left"]

    def materials(self, key_id: str, identifier: str = "") -> list[str]:
        """Return the states of the key materials of a key, or that of one; as left, when the key is pending deletion."""
        keys = [key_id] if key_id else [key["KeyId"] for key in self.session.client("kms").list_keys()["Keys"]]
        found = []
        for key in keys:
            with contextlib.suppress(self.session.client("kms").exceptions.ClientError):
                listed = self.session.client("kms").list_key_rotations(KeyId=key, IncludeKeyMaterial="ALL_KEY_MATERIAL")
                found += [
                    one["KeyMaterialState"] for one in listed["Rotations"] if identifier in ("", one["KeyMaterialId"])
                ]
        return found

    def creates(self) -> dict[str, int]:
        """Return how often each create call took effect."""
        found = sandbox_process.call(self.sandbox.url, f"/runbook/calls?account={self.account}", method="GET")["calls"]
        return dict(
            Counter(c["operation"] for c in found if c["operation"] in CREATES and c["outcome"]["status"] < 400)
        )


def problems_of_a_run(world: World, runs: Path, private: bytes, files: frozenset[str]) -> Iterator[str]:
    """Yield each problem found after 00 to 06."""
    state, report = (json.loads((runs / RUN_ID / name).read_text()) for name in ("state.json", "report.json"))
    if not report["verified"]:
        yield "report.json does not say that the run is verified"
    unfinished = [name for name, section in state["steps"].items() if section["status"] != "finished"]
    if unfinished or len(state["steps"]) != len(chain()):
        yield f"not finished: {unfinished}"
    key_id = state["steps"][CREATE_KEY]["record"]["key_id"]
    yield from problems_of_resources(world, key_id)
    if world.creates() != CREATES:
        yield f"creates that took effect: {world.creates()}"
    if (there := files_of(runs)) != files:
        yield f"files: left over {sorted(there - files)}, missing {sorted(files - there)}"
    yield from custody_problems(world, runs / RUN_ID, key_id, private)


def problems_of_a_rotation(world: World, runs: Path, private: bytes, files: frozenset[str]) -> Iterator[str]:
    """Yield each problem found after 20: one new material, and backups of both that are what the key holds."""
    steps = json.loads((runs / RUN_ID / "state.json").read_text())["steps"]
    if steps.get(ROTATE_KEY_MATERIAL, {}).get("status") != "finished":
        yield "20 has not finished"
    key_id = steps[CREATE_KEY]["record"]["key_id"]
    yield from problems_of_resources(world, key_id)
    if (states := world.materials(key_id)) != ["NON_CURRENT", "CURRENT"]:
        yield f"key materials: {states}"
        return
    found = sandbox_process.call(world.sandbox.url, f"/runbook/calls?account={world.account}", method="GET")["calls"]
    sent = [one for one in found if one["operation"] == "RotateKeyOnDemand" and one["outcome"]["status"] < 400]
    if len(sent) != 1:
        yield f"rotations that took effect: {len(sent)}"
    if (there := files_of(runs)) != files:
        yield f"files: left over {sorted(there - files)}, missing {sorted(files - there)}"
    later = steps[ROTATE_KEY_MATERIAL]["record"]["materials"]
    if len(later) != 1:
        yield f"recorded materials: {[one['folder'] for one in later]}"
    first = steps[IMPORT_KEY_MATERIAL]["record"]["key_material_id"]
    yield from custody_problems(world, runs / RUN_ID, key_id, private, first)
    for one in later:
        yield from custody_problems(world, runs / RUN_ID / one["folder"], key_id, private, one["key_material_id"])


def problems_of_resources(world: World, key_id: str) -> Iterator[str]:
    """Yield each resource of a finished run that is missing or too many; keys that are pending deletion do not count."""
    found = world.resources()
    found["keys"] = [key for key in found["keys"] if not key.endswith(" PendingDeletion")]
    expected = {
        "keys": [f"{key_id} Enabled"], "aliases": [ALIAS], "subnet groups": [f"runbook-{CLUSTER}"],
        "security groups": [f"runbook-{CLUSTER}"], "clusters": [CLUSTER],
        "instances": [f"{CLUSTER}-1", f"{CLUSTER}-2"], "snapshots": [f"{CLUSTER}-evidence"], "secrets": ["rds"],
        "roles": ["AWSServiceRoleForRDS", "Admin"],
    }  # fmt: skip
    yield from (
        f"{what}: expected {expected[what]}, found {found[what]}" for what in found if expected[what] != found[what]
    )
    ec2 = world.session.client("ec2").describe_security_groups(
        Filters=[{"Name": "group-name", "Values": [f"runbook-{CLUSTER}"]}]
    )
    if len(ec2["SecurityGroups"][0]["IpPermissions"]) != 1:
        yield "the security group does not have exactly one inbound rule"


def files_of(runs: Path) -> frozenset[str]:
    """Return the paths in the runs folder, without those that differ by time or attempt, and without key ids."""
    names = set()
    for path in runs.rglob("*"):
        name = re.sub(
            "materials/[0-9a-f]{6}", "materials/NEW", KEY_AND_CHECK_VALUE.sub("KEY", str(path.relative_to(runs)))
        )
        if "/notebooks/" in name or "/reports/" in name:
            continue
        names.add("Import_Parameters.zip" if path.name.startswith("Import_Parameters_") else name)
    return frozenset(names)


def custody_problems(world: World, folder: Path, key_id: str, private: bytes, identifier: str = "") -> Iterator[str]:
    """Decrypt the custody copy; KMS must accept it as the key material of the key (that of `identifier`), and reject any other."""
    copies = sorted(folder.glob("KeyMaterial.recovery-*.bin"))
    if len(copies) != 1:
        yield f"custody copies: {[path.name for path in copies]}"
        return
    copy = recovery_copies.open_copy(copies[0].read_bytes(), recovery_keys.load_recovery_private_key(private))
    for what, material, accepted in (
        ("the custody copy", copy, True),
        ("another key material", key_material.KeyMaterial.generate(), False),
    ):
        if _is_accepted(world, key_id, material, identifier) is not accepted:
            yield f"KMS {'rejected' if accepted else 'accepted'} {what}"


def _is_accepted(world: World, key_id: str, material: key_material.KeyMaterial, identifier: str) -> bool:
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
            ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE", **({"KeyMaterialId": identifier} if identifier else {}),
        )  # fmt: skip
    except kms.exceptions.IncorrectKeyMaterialException:
        return False
    return True


def problems_of_a_clean_up(world: World, runs: Path) -> Iterator[str]:
    """Yield what is left after 90 besides the key that is pending deletion."""
    state = json.loads((runs / RUN_ID / "state.json").read_text())
    key_id = state["steps"][CREATE_KEY]["record"]["key_id"]
    if (keys := world.resources()["keys"]) != [f"{key_id} PendingDeletion"]:
        yield f"after 90, keys: {keys}"
    yield from left_over(world)
    if state["steps"][CLEAN_UP]["status"] != "finished":
        yield "90 has not finished"


def left_over(world: World) -> Iterator[str]:
    """Yield what is left in the account besides keys that are pending deletion."""
    found = world.resources()
    found["keys"] = [key for key in found["keys"] if not key.endswith(" PendingDeletion")]
    expected = {"roles": ["AWSServiceRoleForRDS", "Admin"]}
    yield from (f"after 90, {what}: {names}" for what, names in found.items() if names != expected.get(what, []))
