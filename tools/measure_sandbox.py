"""Measure the sandbox: start-up, the latency of describe calls compared with plain moto, and many learners in parallel.

python tools/measure_sandbox.py                 start-up and latency, about half a minute
python tools/measure_sandbox.py --learners 30   the same, and 30 learners in parallel, each with all calls of a run
python tools/measure_sandbox.py --runs 30       the same, and 30 `runbook run` in parallel, each with its own seat
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
from bench_tools import until
from botocore.config import Config
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from runbook_lib.aws.sandbox_accounts import ACCOUNT_HEADER, account_of_seat

SANDBOX = [sys.executable, "-m", "runbook_sandbox"]
_PLAIN = """
import logging
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
server.start()
print("http://%s:%s" % server.get_host_and_port(), flush=True)
input()
"""
PLAIN_MOTO = [sys.executable, "-c", _PLAIN]


@contextlib.contextmanager
def served(command: list[str]) -> Iterator[tuple[str, float]]:
    """Start a server; yield its URL and the seconds until it printed the URL."""
    begun = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        lines = iter(server.stdout or [])
        url = next(line.strip() for line in lines if line.startswith("http://"))
        yield url, time.perf_counter() - begun
        server.terminate()


def connect(url: str, service: str, seat: int | None = None) -> Any:
    """Return a client without retries, so that every error is visible."""
    client = boto3.client(
        service, region_name="eu-west-2", endpoint_url=url, aws_access_key_id="fake",
        aws_secret_access_key="fake", config=Config(retries={"max_attempts": 0}),  # noqa: S106
    )  # fmt: skip
    account = account_of_seat(seat)
    client.meta.events.register("before-sign", lambda request, **_: request.headers.add_header(ACCOUNT_HEADER, account))
    return client


CLUSTER = {"Engine": "aurora-mysql", "MasterUsername": "chief", "MasterUserPassword": "correct-horse",
           "StorageEncrypted": True}  # fmt: skip
INSTANCE = {"Engine": "aurora-mysql", "DBInstanceClass": "db.t4g.medium"}


def describers(url: str) -> dict[str, Callable[[], Any]]:
    """Create one key, one cluster and one instance; return the calls that describe them."""
    kms, rds = connect(url, "kms"), connect(url, "rds")
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    rds.create_db_cluster(DBClusterIdentifier="measured", KmsKeyId=key, **CLUSTER)
    rds.create_db_instance(DBInstanceIdentifier="measured-1", DBClusterIdentifier="measured", **INSTANCE)
    return {
        "describe_key": lambda: kms.describe_key(KeyId=key),
        "describe_db_clusters": lambda: rds.describe_db_clusters(DBClusterIdentifier="measured"),
        "describe_db_instances": lambda: rds.describe_db_instances(DBInstanceIdentifier="measured-1"),
    }


def latency(ours: str, plain: str, times: int) -> None:
    """Print the median latency of each describe call on both servers, which are called alternately."""
    calls = {"sandbox": describers(ours), "plain moto": describers(plain)}
    for name in calls["sandbox"]:
        taken: dict[str, list[float]] = {who: [] for who in calls}
        for turn in range(times + 20):
            for who, its in calls.items():
                begun = time.perf_counter()
                its[name]()
                if turn >= 20:
                    taken[who].append(time.perf_counter() - begun)
        medians = {who: statistics.median(values) * 1000 for who, values in taken.items()}
        ratio = medians["sandbox"] / medians["plain moto"]
        print(f"{name}: {medians['sandbox']:.2f} ms, plain moto {medians['plain moto']:.2f} ms, {ratio:.2f} times")


def whole_run(url: str, seat: int) -> None:
    """Make the calls of a run: key, import, cluster and instance, wait, verify, clean up."""
    kms, rds = connect(url, "kms", seat), connect(url, "rds", seat)
    ec2, trail = connect(url, "ec2", seat), connect(url, "cloudtrail", seat)
    connect(url, "sts", seat).get_caller_identity()
    subnets = [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]]
    key = kms.create_key(Origin="EXTERNAL")["KeyMetadata"]
    kms.create_alias(AliasName="alias/learner", TargetKeyId=key["KeyId"])
    pair = kms.get_parameters_for_import(
        KeyId=key["KeyId"], WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_3072"
    )
    public: Any = serialization.load_der_public_key(pair["PublicKey"])
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    kms.import_key_material(
        KeyId=key["KeyId"], ImportToken=pair["ImportToken"], ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE",
        EncryptedKeyMaterial=public.encrypt(os.urandom(32), oaep),
    )  # fmt: skip
    rds.create_db_subnet_group(DBSubnetGroupName="learner", DBSubnetGroupDescription="x", SubnetIds=subnets)
    rds.create_db_cluster(
        DBClusterIdentifier="learner", DBSubnetGroupName="learner", KmsKeyId="alias/learner", **CLUSTER
    )
    rds.create_db_instance(DBInstanceIdentifier="learner-1", DBClusterIdentifier="learner", **INSTANCE)
    until(lambda: rds.describe_db_instances()["DBInstances"][0]["DBInstanceStatus"] == "available")
    shown = rds.describe_db_clusters()["DBClusters"]
    events = trail.lookup_events(LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "CreateGrant"}])
    if [key["Arn"]] != [one["KmsKeyId"] for one in shown] or len(events["Events"]) != 1:
        raise RuntimeError(f"seat {seat} sees resources of another seat")
    rds.delete_db_instance(DBInstanceIdentifier="learner-1", SkipFinalSnapshot=True)
    rds.delete_db_cluster(DBClusterIdentifier="learner", SkipFinalSnapshot=True)
    until(lambda: not rds.describe_db_clusters()["DBClusters"])
    rds.delete_db_subnet_group(DBSubnetGroupName="learner")
    kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)


def learners(url: str, number: int) -> int:
    """Make the calls of a run for `number` learners in parallel; print and return the number of errors."""
    failed: list[str] = []
    start = threading.Barrier(number)

    def learn(seat: int) -> None:
        start.wait()
        try:
            whole_run(url, seat)
        except Exception as error:  # noqa: BLE001 - counted and printed
            failed.append(f"seat {seat}: {error}")

    threads = [threading.Thread(target=learn, args=(seat,)) for seat in range(1, number + 1)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(
        f"{number} learners at once: {time.perf_counter() - begun:.1f} s, {len(failed)} errors", *failed[:3], sep="\n  "
    )
    return len(failed)


def whole_runbooks(url: str, number: int) -> int:
    """Start `number` `runbook run` in parallel, each with its own seat; print and return the number of failures."""
    with tempfile.TemporaryDirectory() as folder:
        started = []
        begun = time.perf_counter()
        for seat in range(1, number + 1):
            environment = {**os.environ, "RUNBOOK_SEAT": str(seat), "RUNBOOK_SANDBOX_ENDPOINT": url,
                           "RUNBOOK_RUNS_DIR": str(Path(folder) / f"runs-{seat}")}  # fmt: skip
            command = [sys.executable, "-m", "runbook_cli.main", "run", "--quiet"]
            started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))  # noqa: S603
        said = [(seat, one.communicate()[1], one.returncode) for seat, one in enumerate(started, 1)]
    failed = [f"seat {seat}: {text.strip()[:300]}" for seat, text, code in said if code]
    print(
        f"{number} runbooks at once: {time.perf_counter() - begun:.0f} s, {len(failed)} errors", *failed[:3], sep="\n  "
    )
    return len(failed)


def _processor() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Print the figures; return 1 if a learner or a run failed."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--times", type=int, default=300, help="number of calls of each kind")
    options.add_argument("--learners", type=int, default=0, help="number of learners in parallel")
    options.add_argument("--runs", type=int, default=0, help="number of `runbook run` in parallel")
    given = options.parse_args()
    taken, before = [], _processor()
    for _ in range(5):
        with served(SANDBOX) as (_, seconds):
            taken.append(seconds)
    used = (_processor() - before) / 5
    print(
        f"start-up: {statistics.median(taken):.2f} s (median of 5, longest {max(taken):.2f} s); processor {used:.2f} s"
    )
    with served(SANDBOX) as (ours, _):
        with served(PLAIN_MOTO) as (plain, _):
            latency(ours, plain, given.times)
        failed = learners(ours, given.learners) if given.learners else 0
        failed += whole_runbooks(ours, given.runs) if given.runs else 0
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
