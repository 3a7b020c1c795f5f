"""In the right place: no variable, profile or file sends a sandbox run to AWS or an AWS run elsewhere, at any step."""

from __future__ import annotations

import itertools
from pathlib import Path
from urllib.parse import urlsplit

import botocore.httpsession
import pytest
from botocore.awsrequest import AWSResponse
from cells import run_cells

from runbook_lib.errors import WrongAccount, WrongEndpoint
from runbook_lib.run import Run
from runbook_lib.sandbox.process import Sandbox
from runbook_lib.session import Session, sandbox_session
from runbook_lib.steps import all_steps

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
    call_all(Session(target="aws", region="eu-west-2", account_id=ACCOUNT))
    assert len(SERVICES) == len(sent)
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
        "db_cluster_identifier": "c", "db_instance_identifiers": [], "request": {}, "key_check_value": "", "set": "s",
        "custody": {"custody": "none", "holders": []}, "files": {}, "wrapping_public_key_sha256": "",
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
