"""In the right place: no variable, profile or file sends a sandbox run to AWS or an AWS run elsewhere, at any step."""

from __future__ import annotations

import itertools
import json
import re
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import botocore.httpsession
import pytest
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.credentials import Credentials
from botocore.exceptions import EndpointConnectionError
from cells import run_cells

from runbook_lib.aws.sandbox_process import Sandbox
from runbook_lib.aws.session import Session, sandbox_session
from runbook_lib.aws.sign_in import access_key_of
from runbook_lib.aws.waiting import wait_until_available
from runbook_lib.errors import CredentialsMissing, WrongAccount, WrongEndpoint
from runbook_lib.run.run import Run
from runbook_lib.run.steps import all_steps

ACCOUNT, OTHER = "111111111111", "222222222222"
SERVICES = ("sts", "iam", "kms", "rds", "ec2", "secretsmanager", "cloudtrail")
ELSEWHERE = "http://127.0.0.1:9"
CALLS = {
    "sts": "get_caller_identity", "iam": "list_roles", "kms": "list_keys", "rds": "describe_db_clusters",
    "ec2": "describe_vpcs", "secretsmanager": "list_secrets", "cloudtrail": "lookup_events",
}  # fmt: skip
CONFIG = f"""
[default]
endpoint_url = {ELSEWHERE}
region = us-east-1
sts_regional_endpoints = legacy
[profile elsewhere]
endpoint_url = {ELSEWHERE}
services = local
[profile real]
aws_access_key_id = AKIAIOSFODNN7EXAMPLE
aws_secret_access_key = not-a-secret
[services local]
{"".join(f"{name} ={chr(10)}  endpoint_url = {ELSEWHERE}{chr(10)}" for name in SERVICES)}
"""
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "not-a-secret"}
# Each of these alone, and each with each profile.
VARIABLES = {
    "nothing": {},
    "endpoint": {"AWS_ENDPOINT_URL": ELSEWHERE},
    "an endpoint per service": {f"AWS_ENDPOINT_URL_{name.upper()}": ELSEWHERE for name in SERVICES},
    "endpoints ignored": {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true", "AWS_ENDPOINT_URL": ELSEWHERE},
    "endpoints not ignored": {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false", "AWS_ENDPOINT_URL": ELSEWHERE},
    "another Region": {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"},
    "another sandbox": {"RUNBOOK_SANDBOX_ENDPOINT": ELSEWHERE},
    "fips": {"AWS_USE_FIPS_ENDPOINT": "true"},
    "dual stack": {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
    "a web identity": {"AWS_WEB_IDENTITY_TOKEN_FILE": "/nonexistent", "AWS_ROLE_ARN": f"arn:aws:iam::{OTHER}:role/x"},
    "container credentials": {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{ELSEWHERE}/credentials"},
    "a proxy": {"HTTPS_PROXY": ELSEWHERE, "HTTP_PROXY": ELSEWHERE, "http_proxy": ELSEWHERE, "NO_PROXY": ""},
}  # fmt: skip
PROFILES = ("", "elsewhere", "real")


@pytest.fixture(params=list(itertools.product(VARIABLES, PROFILES)), ids=lambda pair: " + ".join(filter(None, pair)))
def hostile(request, monkeypatch, tmp_path):
    """An environment that wants to send calls elsewhere."""
    variables, profile = request.param
    (tmp_path / "config").write_text(CONFIG)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for name, value in {**VARIABLES[variables], **KEYS, **({"AWS_PROFILE": profile} if profile else {})}.items():
        monkeypatch.setenv(name, value)


class Sent(list):
    """The addresses that requests would go to, and the proxies that they would take."""


@pytest.fixture
def sent(monkeypatch) -> Sent:
    """Record where each request would go, and let none leave."""
    urls = Sent()
    proxies = urls.proxies = []

    def stop(session, request):
        urls.append(request.url)
        proxies.append(session._proxy_config.proxy_url_for(request.url))
        raise WrongEndpoint("stopped by the test")

    monkeypatch.setattr(botocore.httpsession.URLLib3Session, "send", stop)
    return urls


def call_all(session: Session) -> None:
    for service in SERVICES:
        with pytest.raises(WrongEndpoint, match="stopped by the test"):
            getattr(session.client(service), CALLS[service])()


def test_an_aws_run_reaches_aws_hosts_only(hostile, sent):
    """Every service that the steps call, in every such environment: an AWS host over https."""
    session = Session(target="aws", region="eu-west-2", account_id=ACCOUNT)
    session._identities[KEYS["AWS_ACCESS_KEY_ID"]] = {"Account": ACCOUNT}  # as if STS had answered
    call_all(session)
    assert len(SERVICES) == len(sent) == len({urlsplit(url).hostname for url in sent})
    for url in sent:
        assert ("https", True) == (
            urlsplit(url).scheme,
            f".{urlsplit(url).hostname}".endswith((".amazonaws.com", ".api.aws")),
        )


def test_a_sandbox_run_reaches_its_sandbox_only(hostile, sent):
    """Every service, in every such environment: the sandbox's address, through no proxy, and nothing else."""
    sandbox = Sandbox("http://127.0.0.1:4566", "s")
    call_all(sandbox_session(sandbox, region="eu-west-2", account_id=ACCOUNT))
    assert {("http", "127.0.0.1:4566")} == {urlsplit(url)[:2] for url in sent}
    assert {None} == set(sent.proxies)
    assert len(SERVICES) == len(sent)


@pytest.mark.parametrize("config", ["", "[profile other]\nregion = us-east-1\n", "[default", "credential_process"])
def test_a_sandbox_run_needs_nothing_of_what_is_configured_for_aws(monkeypatch, tmp_path, sent, config):
    """A profile that does not exist, and files that nobody can read, are no concern of a sandbox run."""
    (tmp_path / "config").write_text(config)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    call_all(sandbox_session(Sandbox("http://127.0.0.1:4566", "s"), region="eu-west-2", account_id=ACCOUNT))
    assert {("http", "127.0.0.1:4566")} == {urlsplit(url)[:2] for url in sent}


IDENTITY = """<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:iam::{0}:user/x</Arn><UserId>x</UserId><Account>{0}</Account></GetCallerIdentityResult>
<ResponseMetadata><RequestId>x</RequestId></ResponseMetadata></GetCallerIdentityResponse>"""
# 80 opens the original first, which needs no AWS, and then takes the same clients.
CALLING = [name for name in all_steps() if name not in ("00_start", "03_encrypt_key_material", "80_recovery_drill")]


@pytest.mark.parametrize("name", CALLING)
def test_the_account_is_checked_before_every_step(monkeypatch, tmp_path: Path, name: str):
    """Signed in elsewhere since the last step: refused after one GetCallerIdentity, at every step that calls AWS."""
    for variable, value in {**KEYS, "RUNBOOK_RUNS_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(variable, value)
    target = {"target": "aws", "account_id": ACCOUNT, "region": "eu-west-2", "sandbox_id": ""}
    run = Run.create("real", runs_dir=tmp_path, target=target)
    recorded = {
        "key_id": "k", "key_arn": "arn:aws:kms:eu-west-2:1:key/k", "key_alias": "alias/x", "key_material_id": "m",
        "db_cluster_identifier": "c", "db_instance_identifiers": ["c-1"], "db_cluster_resource_id": "cluster-X",
        "request": {}, "key_check_value": "", "set": "s",
        "custody": {"custody": "none", "source": "wrapped", "key_check_value": "", "made_at": "", "holders": []},
        "files": {"f": "0"}, "wrapping_public_key_sha256": "0", "sha256": {"WrappingPublicKey.bin": "0"},
        "parameters_valid_to": "2099-01-01T00:00:00+00:00", "expiration_model": "KEY_MATERIAL_DOES_NOT_EXPIRE",
    }  # fmt: skip
    for step in all_steps():
        if step != name and step != "90_clean_up":
            run.finish(step, **recorded)
    sent = []

    def answer(session, request):
        sent.append(request.body if isinstance(request.body, str) else (request.body or b"").decode())
        body = IDENTITY.format(OTHER).encode()
        raw = type("Raw", (), {"stream": lambda *_, **__: iter([body]), "read": lambda *_: body})()
        return AWSResponse(request.url, 200, {"date": "Wed, 25 Nov 2026 00:00:00 GMT"}, raw)

    monkeypatch.setattr(botocore.httpsession.URLLib3Session, "send", answer)
    with pytest.raises(WrongAccount, match=f"signed in to account {OTHER}, the run is for {ACCOUNT}"):
        run_cells(name, run_id="real")
    assert 1 == len(sent)
    assert "GetCallerIdentity" in sent[0]


# The account is bound to the credentials: those of a session can change while it lives ---------------------------------

MINE, MINE_TOO, THEIRS, UNKNOWN = (
    "AKIAMINE",
    "AKIAMINETOO",
    "AKIATHEIRS",
    "AKIAUNKNOWN",
)
ACCOUNTS = {MINE: ACCOUNT, MINE_TOO: ACCOUNT, THEIRS: OTHER, "sandbox": ACCOUNT}
CLUSTERS = """<DescribeDBClustersResponse xmlns="http://rds.amazonaws.com/doc/2014-10-31/"><DescribeDBClustersResult>
<DBClusters><DBCluster><DBClusterIdentifier>c</DBClusterIdentifier><Status>creating</Status></DBCluster></DBClusters>
</DescribeDBClustersResult></DescribeDBClustersResponse>"""
DELETED = """<DeleteDBClusterResponse xmlns="http://rds.amazonaws.com/doc/2014-10-31/"><DeleteDBClusterResult/>
</DeleteDBClusterResponse>"""
REFUSED = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>{}</Code><Message>said by the test</Message></Error></ErrorResponse>"""

HEAD = """import json, pathlib
file = pathlib.Path('{0}')
count = file.with_name('count')
n = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(n))
def show(key): print(json.dumps(json.loads(file.read_text()) | dict(AccessKeyId=key)))
"""


class Aws:
    """AWS as a session sees it: which key signed which action, in order, and an account that answers each key."""

    def __init__(self, folder: Path) -> None:
        self.sent: list[tuple[str, str]] = []
        self.faults: list[Exception | int] = []  # what the next calls other than GetCallerIdentity meet
        self.sts_faults: list[Exception] = []
        self.sts_seconds = 0.0
        self.then: Callable[[], object] = lambda: None  # done after each answer
        self._file = folder / "credentials.json"
        self.sign_in(MINE)
        (folder / "process").write_text(f"cat {self._file}\n")
        (folder / "config").write_text(f"[default]\ncredential_process = sh {folder / 'process'}\n")

    def sign_in(self, key: str, *, minutes: int = 5) -> None:
        """Let the credential process give `key`; with less than 15 minutes left botocore asks before each request."""
        until = datetime.now(UTC) + timedelta(minutes=minutes)
        told = {
            "Version": 1,
            "AccessKeyId": key,
            "SecretAccessKey": "s",
            "SessionToken": "t",
            "Expiration": f"{until:%FT%TZ}",
        }
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(told))
        fresh.replace(self._file)

    def run_as_process(self, script: str) -> None:
        """Let `script` be the credential process from now on: Python, with `n` its count and `show(key)`."""
        file = self._file.with_name("process.py")
        file.write_text(HEAD.format(self._file) + script)
        self._file.with_name("process").write_text(f"exec {sys.executable} {file}\n")

    def answer(self, request: Any) -> AWSResponse:
        key = re.search(r"Credential=([^/]+)/", str(request.headers["Authorization"]))[1]  # type: ignore[index]
        body = request.body if isinstance(request.body, str) else request.body.decode()
        action = dict(parse_qsl(body))["Action"]
        status, body = 200, {"DescribeDBClusters": CLUSTERS, "DeleteDBCluster": DELETED}.get(action, "")
        self.sent.append((action, key))
        fault = None
        if action == "GetCallerIdentity":
            fault = self.sts_faults.pop(0) if self.sts_faults else None
            time.sleep(self.sts_seconds)
            status, body = (
                (200, IDENTITY.format(account_of(key)).replace("user/x", f"user/{key}"))
                if account_of(key)
                else (403, REFUSED.format("ExpiredToken"))
            )
        elif self.faults:
            fault = self.faults.pop(0)
        self.then()
        if isinstance(fault, Exception):
            raise fault
        if fault:
            status, body = fault, REFUSED.format("InternalFailure")
        raw = type("Raw", (), {"stream": lambda *_, **__: iter([body.encode()]), "read": lambda *_: body.encode()})()
        return AWSResponse(request.url, status, {"date": "Wed, 25 Nov 2026 00:00:00 GMT"}, raw)

    def asked(self) -> list[str]:
        """Return the keys that STS was asked with."""
        return [key for action, key in self.sent if action == "GetCallerIdentity"]

    def acted(self) -> list[tuple[str, str]]:
        """Return everything else that was sent."""
        return [one for one in self.sent if one[0] != "GetCallerIdentity"]


def account_of(key: str) -> str:
    """Return the account of a key; a key that ends like N1 is ACCOUNT's, one like N2 OTHER's."""
    return ACCOUNTS.get(key, {"N1": ACCOUNT, "N2": OTHER}.get(key[-2:], ""))


@pytest.fixture
def aws(monkeypatch, tmp_path) -> Aws:
    """Credentials by a real `credential_process`, and every request recorded; none leaves."""
    made = Aws(tmp_path)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(botocore.httpsession.URLLib3Session, "send", made.answer)
    return made


@pytest.fixture
def session(aws) -> Session:
    return Session(target="aws", region="eu-west-2", account_id=ACCOUNT)


@pytest.mark.parametrize("retry", [True, False])
def test_nothing_is_sent_once_the_credentials_are_of_another_account(aws, session, retry):
    """Planned in one account, signed in to another since: the delete of the cluster of the same name is not sent."""
    assert ACCOUNT == session.identity()["Account"]
    client = session.client("rds", retry=retry)
    client.describe_db_clusters(DBClusterIdentifier="c")
    aws.sign_in(THEIRS)
    for _ in range(2):
        with pytest.raises(WrongAccount, match=f"signed in to account {OTHER}, the run is for {ACCOUNT}"):
            client.delete_db_cluster(DBClusterIdentifier="c", SkipFinalSnapshot=True)
    with pytest.raises(WrongAccount, match=f"signed in to account {OTHER}"):
        session.identity()
    assert [MINE, THEIRS] == aws.asked()
    assert [("DescribeDBClusters", MINE)] == aws.acted()
    aws.sign_in(MINE_TOO)
    client.delete_db_cluster(DBClusterIdentifier="c", SkipFinalSnapshot=True)
    assert ("DeleteDBCluster", MINE_TOO) == aws.sent[-1]


@pytest.mark.parametrize("retry", [True, False])
def test_another_key_of_the_same_account_goes_on(aws, session, retry):
    """A refreshed role, or another role of the account: STS is asked once for the new key, and tells who calls now."""
    session.identity()
    client = session.client("rds", retry=retry)
    for key in (MINE, MINE_TOO):
        aws.sign_in(key)
        for _ in range(3):
            client.describe_db_clusters()
    assert [MINE, MINE_TOO] == aws.asked()
    assert [("DescribeDBClusters", MINE)] * 3 + [("DescribeDBClusters", MINE_TOO)] * 3 == aws.acted()
    assert f"arn:aws:iam::{ACCOUNT}:user/{MINE_TOO}" == session.identity()["Arn"] == session.principal_arn()


def test_a_first_call_asks_whose_credentials_they_are(aws, session):
    """Also when nobody called identity() before."""
    aws.sign_in(THEIRS)
    with pytest.raises(WrongAccount):
        session.client("rds").describe_db_clusters()
    assert [] == aws.acted()


def test_a_session_without_an_account_stays_in_the_one_that_it_found(aws):
    """The first answer of STS fixes the account where none was given."""
    session = Session(target="aws", region="eu-west-2")
    session.client("rds").describe_db_clusters()
    aws.sign_in(THEIRS)
    with pytest.raises(WrongAccount, match=f"signed in to account {OTHER}, the run is for {ACCOUNT}"):
        session.client("rds").describe_db_clusters()
    assert [("DescribeDBClusters", MINE)] == aws.acted()


def test_a_retry_of_the_sdk_is_checked_like_the_first_attempt(aws, session):
    """botocore signs each attempt afresh: the second would go to the other account."""
    client, aws.faults = session.client("rds"), [503]
    aws.then = lambda: aws.sign_in(THEIRS) if aws.acted() else None
    with pytest.raises(WrongAccount):
        client.delete_db_cluster(DBClusterIdentifier="c", SkipFinalSnapshot=True)
    assert [("DeleteDBCluster", MINE)] == aws.acted()


def test_keys_that_change_with_every_look(aws, session):
    """A role of 15 minutes is assumed again for each request: each is signed with the very key that STS was asked with."""
    aws.run_as_process("show(f'AKIA{n}N1')")
    for _ in range(4):
        session.client("rds").describe_db_clusters()
    assert 4 == len(set(aws.acted())) == len(aws.asked())
    assert aws.asked() == [key for _, key in aws.acted()]


def test_accounts_that_change_with_every_look(aws, session):
    """Between the check and the signature nothing can slip in: no request of the other account's key leaves."""
    aws.run_as_process("show(f'AKIA{n}N{n % 2 + 1}')")
    refused = 0
    for _ in range(9):
        try:
            session.client("rds").delete_db_cluster(DBClusterIdentifier="c", SkipFinalSnapshot=True)
        except WrongAccount:
            refused += 1
    assert {ACCOUNT} == {account_of(key) for _, key in aws.acted()}
    assert (9, 9) == (len(aws.acted()) + refused, len(aws.asked()))
    assert refused in (4, 5)


def test_threads_ask_once_and_send_nothing_elsewhere(aws, session):
    """Threads that share a session: one question for each key, and none gets through with the other account's."""
    client, switched = session.client("rds"), threading.Event()
    session.identity()
    aws.sts_seconds = 0.2

    def work(_: int) -> str:
        for _ in range(500):
            try:
                client.describe_db_clusters()
            except WrongAccount:
                return "refused"
            if len(aws.acted()) > 40 and not switched.is_set():
                switched.set()
                aws.sign_in(THEIRS)
        return "never refused"

    with ThreadPoolExecutor(6) as threads:
        assert ["refused"] * 6 == list(threads.map(work, range(6)))
    assert [MINE, THEIRS] == aws.asked()
    assert {("DescribeDBClusters", MINE)} == set(aws.acted())


def test_a_wait_ends_when_the_account_changes(aws, session):
    """In the middle of an hour's wait, and before it takes the other account's cluster for its own."""
    said: list[str] = []
    aws.then = lambda: aws.sign_in(THEIRS) if len(aws.acted()) == 3 else None
    with pytest.raises(WrongAccount, match=f"signed in to account {OTHER}"):
        wait_until_available(session, "c", instances=1, timeout_minutes=1, poll_seconds=0, say=said.append)
    assert [("DescribeDBClusters", MINE)] * 3 == aws.acted()
    assert ["cluster c: creating"] == said


def test_a_wait_outlasts_a_connection_that_is_lost_while_sts_is_asked(aws, session, monkeypatch):
    """A new key, and no network at that moment: asked again at the next look, nothing sent before STS answered."""
    session.identity()
    aws.sign_in(MINE_TOO)
    aws.sts_faults = [EndpointConnectionError(endpoint_url="https://sts")] * 8  # as many as the SDK tries
    said: list[str] = []

    class Enough(Exception):
        pass

    def stop() -> None:
        if len(aws.acted()) == 2:
            raise Enough

    aws.then = stop
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(Enough):
        wait_until_available(session, "c", instances=1, timeout_minutes=1, poll_seconds=0, say=said.append)
    assert ["no response (EndpointConnectionError), polling again", "cluster c: creating"] == said
    assert [MINE, *[MINE_TOO] * 9] == aws.asked()


@pytest.mark.parametrize("process", [f"show('{UNKNOWN}')", "raise SystemExit('said by the test')", "print('{')"])
def test_credentials_that_fail_in_mid_session_send_nothing(aws, session, process):
    """STS refuses the new key, the process fails, or prints no credentials: `CredentialsMissing`, in one line."""
    client = session.client("rds", retry=False)
    client.describe_db_clusters()
    aws.run_as_process(process)
    for call in (lambda: client.delete_db_cluster(DBClusterIdentifier="c"), session.identity):
        with pytest.raises(CredentialsMissing, match="sign in") as caught:
            call()
        assert 1 == len(str(caught.value).splitlines())
    assert [("DescribeDBClusters", MINE)] == aws.acted()


def test_a_presigned_url_is_checked_too(aws, session):
    """A URL signed in the query works for whoever has it, so it is not made for another account."""
    client = session.client("rds")
    session.identity()
    aws.sign_in(THEIRS)
    with pytest.raises(WrongAccount):
        client.generate_presigned_url("delete_db_cluster", {"DBClusterIdentifier": "c"})


@pytest.mark.parametrize("key", [THEIRS, UNKNOWN])
def test_the_request_itself_is_looked_at_as_it_leaves(aws, session, key):
    """Whatever signed it: a request whose own key STS did not confirm for this account is stopped."""
    client = session.client("rds", retry=False)
    session._identities[THEIRS] = {"Account": OTHER}

    def sign_otherwise(request, **_):
        request.context["signing"]["request_credentials"] = Credentials(key, "s", "t")

    client.meta.events.register_last("before-sign", sign_otherwise)
    with pytest.raises(WrongAccount):
        client.describe_db_clusters()
    assert [] == aws.acted()


@pytest.mark.parametrize(
    ("authorization", "query"),
    [
        (f"AWS4-HMAC-SHA256 Credential={MINE}/20261125/eu-west-2/rds/aws4_request, SignedHeaders=host", ""),
        (f"AWS4-HMAC-SHA256 Credential={MINE}/20261125/eu-west-2/rds/aws4_request", f"?Credential={THEIRS}/x"),
        (f"AWS4-ECDSA-P256-SHA256 Credential={MINE}/20261125/rds/aws4_request, SignedHeaders=host".encode(), ""),
        ("", f"?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={MINE}%2F20261125%2Feu-west-2%2Frds%2Faws4_request"),
    ],
)
def test_the_access_key_is_read_from_header_and_query(authorization, query):
    """Signature Version 4 and 4A, as text and as bytes, and presigned."""
    request = AWSRequest("GET", "https://rds.eu-west-2.amazonaws.com/" + query).prepare()
    if authorization:
        request.headers["Authorization"] = authorization
    assert MINE == access_key_of(request)
    assert "" == access_key_of(AWSRequest("GET", "https://rds.eu-west-2.amazonaws.com/").prepare())


def test_a_sandbox_run_asks_sts_no_more_than_it_did(aws):
    """Its credentials are made up and never change: one question by identity(), none by the calls."""
    session = sandbox_session(Sandbox("http://127.0.0.1:4566", "s"), region="eu-west-2", account_id=ACCOUNT)
    for _ in range(3):
        session.client("rds").describe_db_clusters()
    assert [("DescribeDBClusters", "sandbox")] * 3 == aws.sent
    assert ACCOUNT == session.identity()["Account"] == session.identity()["Account"]
    assert ["sandbox"] == aws.asked()
