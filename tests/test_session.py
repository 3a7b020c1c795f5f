"""Clients reach the run's target and nothing else, whatever the environment says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import pytest

from runbook_lib.aws import sandbox_process
from runbook_lib.aws.session import Session, sandbox_session, session_for
from runbook_lib.errors import SandboxEnded, WrongEndpoint

ACCOUNT = "123456789012"
ELSEWHERE = "http://127.0.0.1:9"
HOSTILE = {
    "endpoint for all": {"AWS_ENDPOINT_URL": ELSEWHERE},
    "endpoint for one": {"AWS_ENDPOINT_URL_STS": ELSEWHERE},
    "endpoints ignored": {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
    "real keys": {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "not-a-secret"},
    "a profile that is not there": {"AWS_PROFILE": "prod"},
    "a proxy": {
        "HTTP_PROXY": ELSEWHERE,
        "http_proxy": ELSEWHERE,
        "HTTPS_PROXY": ELSEWHERE,
        "NO_PROXY": "",
        "no_proxy": "",
    },
    "fips": {"AWS_USE_FIPS_ENDPOINT": "true"},
    "dual stack": {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
    "another Region": {"AWS_DEFAULT_REGION": "us-east-1", "AWS_REGION": "us-east-1"},
}


@pytest.fixture(scope="session")
def sandbox(request) -> sandbox_process.Sandbox:
    from runbook_lib.run.paths import runs_folder

    return sandbox_process.ensure(runs_folder())


@pytest.mark.parametrize("environment", HOSTILE.values(), ids=HOSTILE)
def test_a_sandbox_run_reaches_its_sandbox_whatever_the_environment_says(sandbox, monkeypatch, tmp_path, environment):
    """No variable, profile or configuration file sends a sandbox run elsewhere, or signs with real keys."""
    config = tmp_path / "config"
    config.write_text(
        f"[default]\nendpoint_url = {ELSEWHERE}\nregion = us-east-1\n[profile prod]\nendpoint_url = {ELSEWHERE}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    session = sandbox_session(sandbox, region="eu-west-2", account_id=ACCOUNT)
    sent = []
    session.client("sts").meta.events.register("before-send", lambda request, **_: sent.append(request))
    assert session.identity()["Arn"] == "arn:aws:sts::123456789012:assumed-role/Admin/runbook"
    assert [request.url.startswith(sandbox.url) for request in sent] == [True]
    credential = re.search(r"Credential=([^/]+)/\d+/([^/]+)/", str(sent[0].headers["Authorization"]))
    assert credential
    assert credential.groups() == ("sandbox", "eu-west-2")


@pytest.mark.parametrize("environment", [HOSTILE["endpoint for all"], HOSTILE["endpoint for one"]], ids=["all", "one"])
def test_an_aws_run_calls_no_host_but_aws(monkeypatch, environment):
    """A configured endpoint is ignored: the request would go to AWS's own host (it is stopped before it leaves)."""
    for name, value in {**environment, **HOSTILE["real keys"]}.items():
        monkeypatch.setenv(name, value)
    session = Session(target="aws", region="eu-west-2", account_id="123456789012")
    sent: list[str] = []

    def stop(request, **_):
        sent.append(request.url)
        raise WrongEndpoint("stopped by the test")

    session.client("sts").meta.events.register("before-send", stop)
    with pytest.raises(WrongEndpoint, match="stopped by the test"):
        session.identity()
    assert sent == ["https://sts.eu-west-2.amazonaws.com/"]


@pytest.mark.parametrize(
    "url",
    [
        "http://sts.eu-west-2.amazonaws.com/",
        "https://127.0.0.1:5000/",
        "https://amazonaws.com.evil.example/",
        "https://evilamazonaws.com/",
    ],
)
def test_an_aws_request_to_another_host_is_stopped(monkeypatch, url):
    """The check is on each request as it leaves, not on the configuration."""

    class Request:
        headers: ClassVar[dict[str, str]] = {}

    request = Request()
    request.url = url  # type: ignore[attr-defined]
    with pytest.raises(WrongEndpoint, match="AWS hosts over https only"):
        Session(target="aws", region="eu-west-2")._before_send(request)


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-west-2", "rds.eu-west-2.amazonaws.com"),
        ("eu-west-2", "rds.eu-west-2.api.aws"),
        ("cn-north-1", "rds.cn-north-1.amazonaws.com.cn"),
        ("cn-north-1", "rds.cn-north-1.api.amazonwebservices.com.cn"),
        ("us-gov-west-1", "rds.us-gov-west-1.amazonaws.com"),
        ("eusc-de-east-1", "rds.eusc-de-east-1.amazonaws.eu"),
        ("us-iso-east-1", "rds.us-iso-east-1.c2s.ic.gov"),
        ("us-isob-east-1", "rds.us-isob-east-1.sc2s.sgov.gov"),
    ],
)
def test_an_aws_run_calls_the_hosts_of_its_partition_only(region, host):
    """The hosts of the Region's own partition pass, plain and dual-stack; those of another one are stopped."""

    class Request:
        headers: ClassVar[dict[str, str]] = {}
        url = ""

    request = Request()
    session = Session(target="aws", region=region)
    session._identities[""] = {"Account": "123456789012"}  # as if STS had been asked
    request.url = f"https://{host}/"
    session._before_send(request)
    request.url = (
        f"https://rds.{'eu-west-2.amazonaws.com' if region == 'cn-north-1' else 'cn-north-1.amazonaws.com.cn'}/"
    )
    with pytest.raises(WrongEndpoint, match="AWS hosts over https only"):
        session._before_send(request)


def test_a_sandbox_request_to_another_host_is_stopped(sandbox):
    """With target sandbox only the configured endpoint is ever called."""

    class Request:
        headers: ClassVar[dict[str, str]] = {}
        url = "https://kms.eu-west-2.amazonaws.com/"

    with pytest.raises(WrongEndpoint, match="it may call"):
        sandbox_session(sandbox, region="eu-west-2", account_id=ACCOUNT)._before_send(Request())


def test_now_is_the_sandboxs_clock(sandbox):
    """Age and expiry are judged by the Date header of the answers, which the movable clock sets."""
    before = sandbox_session(sandbox, region="eu-west-2", account_id=ACCOUNT).now()
    sandbox_process.call(sandbox.url, "/runbook/clock", body={"advance_seconds": 90_000}, method="POST")
    try:
        after = sandbox_session(sandbox, region="eu-west-2", account_id=ACCOUNT).now()
    finally:
        sandbox_process.call(sandbox.url, "/runbook/clock", body={"reset": True}, method="POST")
    assert 89_990 < (after - before).total_seconds() < 90_060


def test_a_run_is_bound_to_its_own_sandbox(sandbox):
    """Another sandbox at the same address is not taken for the run's."""
    from runbook_lib.run.paths import runs_folder

    target = {"target": "sandbox", "account_id": "123456789012", "region": "eu-west-2", "sandbox_id": "another"}
    with pytest.raises(SandboxEnded, match="start the run again"):
        session_for(target, runs_dir=runs_folder())
    assert (
        session_for({**target, "sandbox_id": sandbox.sandbox_id}, runs_dir=runs_folder()).account_id == "123456789012"
    )


def test_a_sandbox_that_ended_is_named(tmp_path: Path):
    """No sandbox in the runs folder: the run's resources are gone with it."""
    target = {"target": "sandbox", "account_id": "123456789012", "region": "eu-west-2", "sandbox_id": "x"}
    with pytest.raises(SandboxEnded):
        session_for(target, runs_dir=tmp_path)
