"""A session's smaller promises, without a sandbox: clients, offers, clock, roles, Regions, and which error says what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from botocore.exceptions import (
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProxyConnectionError,
    SSOTokenLoadError,
)

from runbook_lib.aws import session as session_module
from runbook_lib.aws.sandbox_accounts import ACCOUNT_HEADER
from runbook_lib.aws.sandbox_process import Sandbox
from runbook_lib.aws.sdk import known_regions
from runbook_lib.aws.session import Session, sandbox_session, session_for
from runbook_lib.errors import AwsCallFailed, CredentialsMissing, SandboxEnded, WrongAccount, WrongEndpoint, WrongRegion

ACCOUNT, OTHER, REGION, URL = "111111111111", "222222222222", "eu-west-2", "http://127.0.0.1:4566"
KEY = "AKIAIOSFODNN7EXAMPLE"


@pytest.fixture
def signed_in(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")


@pytest.fixture
def real(signed_in):
    """A session with target aws whose identity STS has given."""
    session = Session(target="aws", region=REGION, account_id=ACCOUNT)
    session._identities[KEY] = {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/ana", "UserId": "A"}
    return session


@pytest.fixture
def local():
    return sandbox_session(Sandbox(URL, "s"), region=REGION, account_id=ACCOUNT)


def test_a_session_shows_target_region_and_endpoint(real, local):
    """And no credentials."""
    assert "Session(aws, eu-west-2)" == repr(real)
    assert f"Session(sandbox, eu-west-2 at {URL})" == repr(local)


def test_a_client_is_made_once_for_each_service_region_and_kind_of_retry(real):
    """Creates have a client that sends once; the others may send eight times."""
    assert real.client("kms") is real.client("kms", region=REGION)
    assert real.client("kms") is not real.client("kms", retry=False)
    assert real.client("kms") is not real.client("rds")
    assert real.client("kms").meta.region_name == REGION
    assert real.client("kms", region="eu-west-1").meta.region_name == "eu-west-1"
    for retry, attempts in ((True, 8), (False, 1)):
        config = real.client("kms", retry=retry).meta.config
        assert {"total_max_attempts": attempts, "mode": "standard"} == {
            name: config.retries[name] for name in ("total_max_attempts", "mode")
        }
        assert (10, 60) == (config.connect_timeout, config.read_timeout)
        assert config.user_agent_extra.startswith("aurora-byok-runbook")


def test_offers_are_fetched_once_for_each_name(real):
    """The second caller gets the first one's answer, also if it is empty."""
    fetched = []

    def fetch():
        fetched.append(1)
        return []

    assert [] == real.offered("classes", "16.4", fetch=fetch)
    assert real.offered("classes", "16.4", fetch=fetch) is real.offered("classes", "16.4", fetch=fetch)
    assert ["x"] == real.offered("classes", "16.5", fetch=lambda: ["x"])
    assert len(fetched) == 1


def test_now_is_the_last_date_header_plus_the_time_since(real, monkeypatch):
    """In UTC, whatever the zone of the header."""
    model = SimpleNamespace(name="ListKeys", service_model=SimpleNamespace(signing_name="kms"))
    monkeypatch.setattr(session_module.time, "monotonic", lambda: 1000.0)
    real._after_call({"ResponseMetadata": {"HTTPHeaders": {"date": "Wed, 25 Nov 2026 12:00:00 +0200"}}}, model)
    monkeypatch.setattr(session_module.time, "monotonic", lambda: 1090.0)
    assert datetime(2026, 11, 25, 10, 1, 30, tzinfo=UTC) == real.now()
    assert real.now().utcoffset() == timedelta(0)
    for without in ({}, {"ResponseMetadata": {}}, {"ResponseMetadata": {"HTTPHeaders": {}}}):
        real._after_call(without, model)
    assert datetime(2026, 11, 25, 10, 1, 30, tzinfo=UTC) == real.now()


def test_without_a_date_header_it_is_the_machines_clock(real):
    """Asked of STS first."""
    asked = []
    real.client = lambda service: asked.append(service) or SimpleNamespace(get_caller_identity=dict)
    assert abs(real.now() - datetime.now(UTC)) < timedelta(seconds=5)
    assert ["sts"] == asked


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_the_principal_of_a_role_session_is_the_role_with_its_path(real, partition):
    """The session's ARN has no path, a key policy needs it; users, federated users and root are named as they are."""
    asked = []

    def get_role(RoleName):
        asked.append(RoleName)
        return {"Role": {"Arn": f"arn:{partition}:iam::{ACCOUNT}:role/ops/{RoleName}"}}

    real.client = lambda service: {"iam": SimpleNamespace(get_role=get_role)}[service]
    real._identities[KEY]["Arn"] = f"arn:{partition}:sts::{ACCOUNT}:assumed-role/night/session@x"
    assert f"arn:{partition}:iam::{ACCOUNT}:role/ops/night" == real.principal_arn()
    assert ["night"] == asked
    for arn in (
        f"arn:{partition}:iam::{ACCOUNT}:user/ana",
        f"arn:{partition}:sts::{ACCOUNT}:federated-user/ana",
        f"arn:{partition}:iam::{ACCOUNT}:root",
    ):
        real._identities[KEY]["Arn"] = arn
        assert arn == real.principal_arn()
    assert ["night"] == asked


def test_the_regions_are_those_of_rds_in_the_standard_partition(monkeypatch):
    """Whatever profile is set."""
    monkeypatch.setenv("AWS_PROFILE", "does-not-exist")
    found = known_regions()
    assert {"eu-west-2", "us-east-1", "eu-central-1"} <= set(found)
    assert not {"cn-north-1", "us-gov-west-1", "aws-global"} & set(found)


def test_missing_credentials_are_said_with_the_way_in(monkeypatch, tmp_path):
    """Nothing is configured: every call and `identity` raise, and nothing is sent."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    session = Session(target="aws", region=REGION, account_id=ACCOUNT)
    for call in (session.identity, lambda: session.account_id, session.principal_arn, session.client("kms").list_keys):
        with pytest.raises(CredentialsMissing, match="Unable to locate credentials; sign in"):
            call()
    monkeypatch.setenv("AWS_PROFILE", "does-not-exist")
    with pytest.raises(CredentialsMissing, match=r"does-not-exist.*set AWS_PROFILE to one that exists"):
        Session(target="aws", region=REGION)


@pytest.mark.parametrize(
    "error",
    [
        NoCredentialsError(),
        PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
        SSOTokenLoadError(error_msg="expired"),
    ],
)
def test_credentials_that_run_out_in_a_call_are_missing(real, error):
    """botocore's own error is the cause."""
    with pytest.raises(CredentialsMissing, match="sign in") as raised:
        real._after_call_error(error)
    assert error is raised.value.__cause__


def test_a_dropped_connection_ends_a_sandbox_and_no_aws_run(real, local):
    """A sandbox on this machine does not respond only if it has ended; AWS may respond again."""
    error = EndpointConnectionError(endpoint_url=URL)
    real._after_call_error(error)
    real._after_call_error(ValueError("another"))
    local._after_call_error(ConnectTimeoutError(endpoint_url=URL))
    with pytest.raises(SandboxEnded, match="does not respond: its resources ended"):
        local._after_call_error(error)


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (ProxyConnectionError(proxy_url="http://p"), AwsCallFailed, "correct HTTPS_PROXY"),
        (EndpointConnectionError(endpoint_url="https://sts"), WrongRegion, "does not respond in Region 'eu-west-2'"),
        (ConnectTimeoutError(endpoint_url="https://sts"), WrongRegion, "does not respond in Region 'eu-west-2'"),
    ],
)
def test_what_keeps_sts_from_answering_is_told_apart(real, local, monkeypatch, error, expected, words):
    """The proxy, the Region, or the sandbox."""

    def fail():
        raise error

    for session, kind, said in ((real, expected, words), (local, SandboxEnded, "does not respond")):
        monkeypatch.setattr(session, "_caller", fail)
        with pytest.raises(kind, match=said):
            session.identity()


def sent_to(url, key=KEY):
    return SimpleNamespace(url=url, headers={"Authorization": f"AWS4-HMAC-SHA256 Credential={key}/2026/x"})


def test_a_request_leaves_only_for_its_host_and_with_a_checked_key(real):
    """The one question that may leave before is GetCallerIdentity, and it too goes to AWS only."""
    good = "https://kms.eu-west-2.amazonaws.com/"
    real._before_send(sent_to(good), event_name="before-send.kms.ListKeys")
    real._before_send(sent_to(good, "OTHER"), event_name="before-send.sts.GetCallerIdentity")
    with pytest.raises(WrongAccount, match="account was not checked"):
        real._before_send(sent_to(good, "OTHER"), event_name="before-send.kms.ListKeys")
    real._identities["OTHER"] = {"Account": OTHER}
    with pytest.raises(WrongAccount, match=f"signed in to account {OTHER}, the run is for {ACCOUNT}"):
        real._before_send(sent_to(good, "OTHER"), event_name="before-send.kms.ListKeys")
    for bad in ("http://kms.eu-west-2.amazonaws.com/", "https://example.com/", "https:///"):
        with pytest.raises(WrongEndpoint, match="AWS hosts over https only"):
            real._before_send(sent_to(bad), event_name="before-send.sts.GetCallerIdentity")


def test_a_sandbox_request_carries_its_account_and_leaves_for_its_endpoint(local):
    """Scheme, host and port are the sandbox's."""
    request = sent_to(f"{URL}/path")
    local._before_send(request)
    assert ACCOUNT == request.headers[ACCOUNT_HEADER]
    for bad in ("http://127.0.0.1:4567/", "https://127.0.0.1:4566/", "http://localhost:4566/"):
        with pytest.raises(WrongEndpoint, match="it may call http"):
            local._before_send(sent_to(bad))


def test_a_session_for_an_aws_run_is_checked_before_it_is_returned(signed_in, monkeypatch, tmp_path):
    """The target's Region and account; STS is asked at once."""
    seen = []
    monkeypatch.setattr(Session, "identity", lambda self: seen.append(self) or {})
    target = {"target": "aws", "region": "eu-west-1", "account_id": ACCOUNT, "sandbox_id": ""}
    session = session_for(target, runs_dir=tmp_path)
    assert [session] == seen
    assert ("aws", "eu-west-1", ACCOUNT, "") == (
        session.target, session.region, session._expected_account, session.endpoint_url,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("region", "partition"),
    [("eu-west-2", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("nonsense", "aws")],
)
def test_a_regions_partition_decides_the_hosts(region, partition):
    """What is no Region's name counts as the standard partition; 00 refuses it later."""
    assert partition == Session(target="sandbox", region=region).partition
