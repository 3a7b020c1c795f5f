"""The sandbox's instruments: clock, fault injection, repeatable ids, seats, access, recorded calls without secrets."""

from __future__ import annotations

import base64
import http.client
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from kms_support import (
    ADMIN,
    FOREVER,
    NOT_FOUND,
    OTHER_REGION,
    WRAPPING,
    advance,
    connect,
    described,
    external,
    import_material,
    now,
    refusal,
    reset,
    sandbox,
    wrap,
    wrapping_set,
)

from runbook_lib.aws import sandbox_process
from runbook_lib.aws.sandbox_accounts import account_of_seat
from runbook_lib.errors import SandboxUnavailable
from runbook_sandbox.server import server


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """A sandbox for this module."""
    with sandbox() as url:
        yield url


@pytest.fixture
def endpoint(served: str) -> str:
    """The sandbox, empty, with the real time and without faults."""
    reset(served)
    return served


@pytest.fixture
def kms(endpoint: str) -> Any:
    """A KMS client on it."""
    return connect(endpoint)


def ask(endpoint: str, path: str, body: object = None, method: str = "") -> Any:
    """Send a control command to the sandbox."""
    return sandbox_process.call(endpoint, path, body=body, method=method or ("GET" if body is None else "POST"))


def raw(endpoint: str, path: str = "/", *, method: str = "GET", body: bytes = b"", **headers: str) -> Any:
    """Send a request unchanged; return status, headers and body."""
    parts = urllib.parse.urlsplit(endpoint)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 0, timeout=10)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


# Clock ------------------------------------------------------------------------------------------------


def test_the_clock_moves_and_shows_in_the_date_header(kms: Any, endpoint: str) -> None:
    """After the clock is moved, dates in responses and the Date header show the new time."""
    before = parsedate_to_datetime(kms.list_keys()["ResponseMetadata"]["HTTPHeaders"]["date"])
    advance(endpoint, days=40)
    after = parsedate_to_datetime(kms.list_keys()["ResponseMetadata"]["HTTPHeaders"]["date"])
    assert timedelta(days=40) == pytest.approx(after - before, abs=timedelta(seconds=10))
    assert after == pytest.approx(external(kms)["CreationDate"], abs=timedelta(seconds=10))


def test_the_clock_can_be_set_and_reset(kms: Any, endpoint: str) -> None:
    """The clock can be set to a date, and reset to the machine's time."""
    shown = ask(endpoint, "/runbook/clock", {"now": "2031-05-01T12:00:00Z"})["now"]
    assert shown.startswith("2031-05-01T12:00:0")
    ask(endpoint, "/runbook/clock", {"reset": True})
    assert abs(now(endpoint) - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.parametrize(
    "command",
    [{}, {"advance_seconds": "1"}, {"advance_seconds": True}, {"now": "soon"}, {"now": "2031-05-01T12:00:00"},
     {"advance_seconds": 1, "reset": True}, {"advance_seconds": 1e300}, {"advance_seconds": 1e12}, {"reset": False},
     {"now": "9999-12-31T00:00:00Z"},
     {"faster": 2}],
)  # fmt: skip
def test_invalid_clock_commands(endpoint: str, command: dict[str, Any]) -> None:
    """An invalid command is a 400 that describes valid ones, and leaves the clock unchanged."""
    status, _, body = raw(endpoint, "/runbook/clock", method="POST", body=json.dumps(command).encode())
    assert (400, True) == (status, bool(json.loads(body)["error"]))
    assert abs(now(endpoint) - datetime.now(UTC)) < timedelta(seconds=5)


def test_material_and_tokens_expire_by_the_clock(kms: Any, endpoint: str) -> None:
    """Moving the clock expires a token after 24 hours and key material at ValidTo; CloudTrail records the expiry."""
    key, material = external(kms), os.urandom(32)
    pair = wrapping_set(kms, key["KeyId"])
    ends = (now(endpoint) + timedelta(days=3)).replace(microsecond=0)
    imported = import_material(kms, key["KeyId"], material, ValidTo=ends)["KeyMaterialId"]
    advance(endpoint, days=4)
    blobs = {"ImportToken": pair["ImportToken"], "EncryptedKeyMaterial": wrap(pair["PublicKey"], material)}
    expired = refusal(kms.import_key_material, KeyId=key["KeyId"], **blobs, **FOREVER)
    assert ("ExpiredImportTokenException", "PendingImport") == (expired, described(kms, key)["KeyState"])
    (event,) = events(endpoint, "EventName", "DeleteExpiredKeyMaterial")
    detail = json.loads(event["CloudTrailEvent"])
    assert ("AwsServiceEvent", "AWS Internal") == (detail["eventType"], detail["userIdentity"]["invokedBy"])
    assert {"keyId": key["KeyId"], "keyMaterialId": imported} == detail["serviceEventDetails"]
    assert (None, f"{ends:%Y-%m-%dT%H:%M:%SZ}") == (detail["requestParameters"], detail["eventTime"])


def test_the_end_of_a_waiting_period_is_an_event(kms: Any, endpoint: str) -> None:
    """KMS deletes a key when its waiting period ends; CloudTrail shows DeleteKey with that time."""
    key = external(kms)
    kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)
    ends = described(kms, key)["DeletionDate"]
    advance(endpoint, days=9)
    kms.list_keys()
    (event,) = events(endpoint, "EventName", "DeleteKey")
    assert ({"keyId": key["KeyId"]}, f"{ends:%Y-%m-%dT%H:%M:%SZ}") == (
        json.loads(event["CloudTrailEvent"])["serviceEventDetails"],
        json.loads(event["CloudTrailEvent"])["eventTime"],
    )


# Faults -----------------------------------------------------------------------------------------------


def inject(endpoint: str, operation: str, kind: str, **more: Any) -> None:
    """Inject a fault."""
    ask(endpoint, "/runbook/faults", {"operation": operation, "kind": kind, **more})


def test_no_faults_by_default(endpoint: str, kms: Any) -> None:
    """There are no faults by default, and a reset removes those injected."""
    inject(endpoint, "kms:ListKeys", "throttle", count=5)
    reset(endpoint)
    assert {"faults": []} == ask(endpoint, "/runbook/faults")
    kms.list_keys()


@pytest.mark.parametrize(
    ("service", "operation", "code"),
    [("kms", "list_keys", "ThrottlingException"), ("iam", "list_roles", "Throttling"),
     ("sts", "get_caller_identity", "Throttling"), ("cloudtrail", "lookup_events", "ThrottlingException")],
)  # fmt: skip
def test_throttling(endpoint: str, kms: Any, service: str, operation: str, code: str) -> None:
    """As many calls as requested are throttled, with the service's own error; later calls succeed."""
    client = connect(endpoint, service)
    inject(endpoint, f"{service}:*", "throttle", count=2)
    assert [code, code] == [refusal(getattr(client, operation)) for _ in range(2)]
    getattr(client, operation)()


def test_a_fault_is_for_one_operation_after_some_calls(endpoint: str, kms: Any) -> None:
    """A fault affects only its operation, and only after the given number of calls."""
    inject(endpoint, "kms:CreateKey", "throttle", after=1)
    kms.list_keys()
    kms.create_key()
    assert refusal(kms.create_key) == "ThrottlingException"
    assert len(kms.list_keys()["Keys"]) == 1


def test_a_fault_is_for_one_account(endpoint: str, kms: Any) -> None:
    """A fault for one learner's account does not affect other accounts."""
    inject(endpoint, "*", "throttle", account=account_of_seat(3))
    kms.list_keys()
    assert refusal(connect(endpoint, account=account_of_seat(3)).list_keys) == "ThrottlingException"


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [({}, 500, "KMSInternalException"), ({"code": "DependencyTimeoutException", "status": 503}, 503,
      "DependencyTimeoutException"), ({"code": "AccessDeniedException", "status": 400}, 400, "AccessDeniedException")],
)  # fmt: skip
def test_server_errors(endpoint: str, kms: Any, more: dict[str, Any], status: int, code: str) -> None:
    """An injected error has the requested status and code, and the call has no effect."""
    inject(endpoint, "kms:CreateKey", "error", **more)
    with pytest.raises(ClientError) as refused:
        kms.create_key()
    answer = refused.value.response
    assert (status, code) == (answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"])
    assert kms.list_keys()["Keys"] == []


def test_boto3_retries_recover(endpoint: str, kms: Any) -> None:
    """boto3's standard retries recover from throttling and a 5xx."""
    patient = connect(endpoint, retries={"mode": "standard", "max_attempts": 4})
    inject(endpoint, "kms:CreateKey", "throttle")
    inject(endpoint, "kms:CreateKey", "error", after=0)
    patient.create_key()
    assert len(kms.list_keys()["Keys"]) == 1


def test_latency(endpoint: str, kms: Any) -> None:
    """An injected delay holds the response back, beyond a client's read timeout."""
    inject(endpoint, "kms:ListKeys", "latency", seconds=0.4, count=2)
    started = time.monotonic()
    kms.list_keys()
    assert time.monotonic() - started >= 0.4
    with pytest.raises(ReadTimeoutError):
        connect(endpoint, read_timeout=0.1).list_keys()


@pytest.mark.parametrize(("kind", "keys"), [("drop_before", 0), ("drop_after", 1)])
def test_dropped_connections(endpoint: str, kms: Any, kind: str, keys: int) -> None:
    """The connection closes without a response: before the call takes effect, or after."""
    inject(endpoint, "kms:CreateKey", kind)
    with pytest.raises(ConnectionClosedError):
        kms.create_key()
    assert keys == len(kms.list_keys()["Keys"])


def test_latency_and_drop_together(endpoint: str, kms: Any) -> None:
    """Several faults on one call combine."""
    inject(endpoint, "kms:CreateKey", "latency", seconds=0.2)
    inject(endpoint, "kms:CreateKey", "drop_after")
    started = time.monotonic()
    with pytest.raises(ConnectionClosedError):
        kms.create_key()
    assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize(
    "wrong",
    [{}, {"operation": "kms:X"}, {"operation": "CreateKey", "kind": "throttle"}, {"operation": "kms:X", "kind": "burn"},
     {"operation": "*", "kind": "throttle", "count": -1}, {"operation": "*", "kind": "latency", "seconds": 601},
     {"operation": "*", "kind": "error", "status": 200}, {"operation": "*", "kind": "error", "often": 2}],
)  # fmt: skip
def test_invalid_faults(endpoint: str, wrong: dict[str, Any]) -> None:
    """An invalid command is a 400 that says what is wrong, and injects no fault."""
    status, _, body = raw(endpoint, "/runbook/faults", method="POST", body=json.dumps(wrong).encode())
    assert (400, True) == (status, bool(json.loads(body)["error"]))
    assert {"faults": []} == ask(endpoint, "/runbook/faults")


def test_faults_can_be_removed(endpoint: str, kms: Any) -> None:
    """DELETE removes all faults."""
    inject(endpoint, "*", "throttle", count=100)
    ask(endpoint, "/runbook/faults", method="DELETE")
    kms.list_keys()


# Repeatable ids ---------------------------------------------------------------------------------------


def story(endpoint: str, *, reads: bool) -> dict[str, Any]:
    """Create keys and a grant in two accounts, with or without read calls in between; return their ids and a role's."""
    found: dict[str, Any] = {}
    for account in (account_of_seat(1), account_of_seat(2)):
        kms = connect(endpoint, account=account)
        first, second = external(kms, b"\7" * 32), external(kms)
        if reads:
            kms.describe_key(KeyId=first["KeyId"])
            kms.encrypt(KeyId=first["KeyId"], Plaintext=b"x")
            connect(endpoint, "ec2", account=account).describe_vpcs()
            connect(endpoint, "rds", account=account).describe_db_clusters()
        role = f"arn:aws:iam::{account}:role/Admin"
        grant = kms.create_grant(KeyId=first["KeyId"], GranteePrincipal=role, Operations=["Decrypt"])
        role_id = connect(endpoint, "iam", account=account).get_role(RoleName="Admin")["Role"]["RoleId"]
        found[account] = [first["KeyId"], second["KeyId"], grant["GrantId"], role_id]
    return found


def test_ids_repeat_from_a_seed() -> None:
    """The same seed gives the same ids, by kind and account, whatever was read or used in between."""
    stories = []
    for seed, reads in ((7, False), (7, True), (8, False), (None, False)):
        with sandbox(seed=seed) as url:
            reset(url)
            stories.append(story(url, reads=reads))
    first, again, other, without = stories
    assert first == again
    apart = [set(one[account]) for one in (first, other, without) for account in one]
    assert sum(len(ids) for ids in apart) == len(set().union(*apart))


def test_ids_repeat_after_a_reset_and_for_a_seat_alone() -> None:
    """A reset restarts the counters; the order in which seats work does not matter."""
    with sandbox(seed=7) as url:
        reset(url)
        first = story(url, reads=False)
        ask(url, "/runbook/seats/2/reset", {})
        kms = connect(url, account=account_of_seat(2))
        assert first[account_of_seat(2)][0] == external(kms)["KeyId"]
        reset(url)
        assert first == story(url, reads=True)


def test_secrets_are_never_seeded() -> None:
    """Wrapping keys, tokens, data keys and KMS-generated material differ under the same seed."""
    seen: list[tuple[bytes, ...]] = []
    for _ in range(2):
        with server.running(seed=7) as url:
            reset(url)
            kms = connect(url)
            pair = wrapping_set(kms, external(kms)["KeyId"])
            key = kms.create_key()["KeyMetadata"]
            data = kms.generate_data_key(KeyId=key["KeyId"], KeySpec="AES_256")
            seen.append((pair["PublicKey"], pair["ImportToken"], data["Plaintext"], key["CurrentKeyMaterialId"]))
    assert all(one != other for one, other in zip(*seen, strict=True))


# Seats ------------------------------------------------------------------------------------------------


def test_each_seat_has_an_account_of_its_own(endpoint: str, kms: Any) -> None:
    """A learner has an account, caller and keys of their own, and sees nobody else's."""
    one, other = (connect(endpoint, account=account_of_seat(seat)) for seat in (1, 2))
    key = external(one)
    assert f":{account_of_seat(1)}:" in key["Arn"]
    assert NOT_FOUND == refusal(other.describe_key, KeyId=key["KeyId"])
    caller = connect(endpoint, "sts", account=account_of_seat(2)).get_caller_identity()
    assert (account_of_seat(2), True) == (caller["Account"], caller["Arn"].endswith(":assumed-role/Admin/runbook"))


def test_one_seat_is_reset_without_the_others(endpoint: str, kms: Any) -> None:
    """Resetting a seat empties its account in every Region and service; other accounts are unchanged."""
    one, there, other = (
        connect(endpoint, account=account_of_seat(1)),
        connect(endpoint, account=account_of_seat(1), region=OTHER_REGION),
        connect(endpoint, account=account_of_seat(2)),
    )
    for client in (one, there, other, kms):
        external(client)
    assert {"seat": 1, "account": account_of_seat(1)} == ask(endpoint, "/runbook/seats/1/reset", {})
    assert [0, 0, 1, 1] == [len(client.list_keys()["Keys"]) for client in (one, there, other, kms)]
    external(one)


@pytest.mark.parametrize("seat", ["10000", "-1", "x"])
def test_invalid_seats(endpoint: str, seat: str) -> None:
    """Seats go up to 9999; others are rejected."""
    status, _, _ = raw(endpoint, f"/runbook/seats/{seat}/reset", method="POST")
    assert status in (400, 404)


def test_reset_keeps_the_role_admin(endpoint: str, kms: Any) -> None:
    """After a full reset the caller is still the role Admin, IAM has it, and policies can name it."""
    reset(endpoint)
    assert connect(endpoint, "iam").get_role(RoleName="Admin")["Role"]["Arn"] == ADMIN
    statement = {"Effect": "Allow", "Principal": {"AWS": ADMIN}, "Action": "kms:*", "Resource": "*"}
    kms.create_key(Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))


def test_a_reset_changes_the_sandbox_id(endpoint: str) -> None:
    """A reset changes the sandbox id, so that a run can tell that its resources no longer exist."""
    before = sandbox_process.identify(endpoint).sandbox_id
    reset(endpoint)
    assert before != sandbox_process.identify(endpoint).sandbox_id


def learner(endpoint: str, client: Any, start: threading.Barrier) -> bytes:
    """Go through the KMS operations once: key, alias, wrapping key, import, encrypt, decrypt."""
    start.wait()
    material = os.urandom(32)
    key = client.create_key(Origin="EXTERNAL", Tags=[{"TagKey": "a", "TagValue": "b"}])["KeyMetadata"]
    client.create_alias(AliasName="alias/mine", TargetKeyId=key["KeyId"])
    pair = wrapping_set(client, key["KeyId"])
    client.import_key_material(
        KeyId=key["KeyId"], ImportToken=pair["ImportToken"],
        EncryptedKeyMaterial=wrap(pair["PublicKey"], material), **FOREVER,
    )  # fmt: skip
    blob = client.encrypt(KeyId="alias/mine", Plaintext=key["KeyId"].encode())["CiphertextBlob"]
    client.list_key_rotations(KeyId=key["KeyId"], IncludeKeyMaterial="ALL_KEY_MATERIAL")
    assert ["alias/mine"] == [alias["AliasName"] for alias in client.list_aliases(KeyId=key["KeyId"])["Aliases"]]
    opened = client.decrypt(CiphertextBlob=blob)["Plaintext"]
    assert key["KeyId"].encode() == opened
    return bytes(opened)


def test_thirty_learners_at_once(endpoint: str, kms: Any) -> None:
    """Thirty learners import their keys at the same time, each in their own account, without an error."""
    clients = [connect(endpoint, account=account_of_seat(seat)) for seat in range(1, 31)]
    start = threading.Barrier(len(clients))
    with ThreadPoolExecutor(len(clients)) as pool:
        keys = list(pool.map(lambda client: learner(endpoint, client, start), clients))
    assert (30, 0) == (len(set(keys)), len(kms.list_keys()["Keys"]))
    assert all(len(client.list_keys()["Keys"]) == 1 for client in clients)


def test_one_account_shared_by_many(endpoint: str, kms: Any) -> None:
    """Ten concurrent clients in one account get ten keys, and only one of them gets the alias."""
    clients = [connect(endpoint) for _ in range(10)]

    def race(client: Any) -> str:
        key = client.create_key()["KeyMetadata"]
        try:
            client.create_alias(AliasName="alias/race", TargetKeyId=key["KeyId"])
        except client.exceptions.AlreadyExistsException:
            return "lost"
        return "won"

    with ThreadPoolExecutor(len(clients)) as pool:
        outcomes = list(pool.map(race, clients))
    assert (1, 9, 10) == (outcomes.count("won"), outcomes.count("lost"), len(kms.list_keys()["Keys"]))


# Access -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.com"])  # noqa: S104 - it is refused
def test_loopback_only_by_default(host: str) -> None:
    """The sandbox serves only this machine's address unless --host names another."""
    with pytest.raises(SandboxUnavailable, match=f"--host {host}"):
        server.serve(host=host, announce=print)


def test_another_host_on_request() -> None:
    """With --host it serves that address and prints the URL."""
    command = [sys.executable, "-m", "runbook_sandbox", "--host", "127.0.0.2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            url = child.stdout.readline().strip()
            assert url.startswith("http://127.0.0.2:")
            assert sandbox_process.identify(url).url == url
        finally:
            child.terminate()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "169.254.169.254", ""])
def test_other_host_names_are_rejected(endpoint: str, host: str) -> None:
    """A request that names another machine as Host (DNS rebinding) is rejected."""
    for path in ("/", "/runbook/identity", "/moto-api/data.json"):
        status, _, body = raw(endpoint, path, Host=host)
        assert (403, True) == (status, b"this machine only" in body)


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_web_pages_are_rejected(endpoint: str, method: str) -> None:
    """A web page in the user's browser can neither read nor change anything: no CORS, and its Origin is rejected."""
    for path in ("/", "/runbook/clock", "/moto-api/reset"):
        status, headers, _ = raw(endpoint, path, method=method, Origin="https://evil.example")
        assert (403, []) == (status, [name for name in headers if name.lower().startswith("access-control")])


def test_no_cors_headers_in_answers(endpoint: str, kms: Any) -> None:
    """Ordinary responses have no CORS headers either."""
    headers = kms.list_keys()["ResponseMetadata"]["HTTPHeaders"]
    assert [] == [name for name in headers if name.startswith("access-control")]


@pytest.mark.parametrize("account", ["1", "x" * 12, "1234567890123", "٣" * 12])
def test_account_ids_have_12_digits(endpoint: str, account: str) -> None:
    """The header that selects the account accepts only a 12-digit account id."""
    status, _, _ = raw(endpoint, "/", method="POST", x_moto_account_id=account.encode().decode("latin-1"))
    assert status == 400


@pytest.mark.parametrize("path", ["/runbook/", "/runbook/nonsense", "/runbook/identity/x"])
def test_unknown_control_paths(endpoint: str, path: str) -> None:
    """An unknown control path is a 404."""
    assert raw(endpoint, path)[0] == 404
    assert raw(endpoint, "/runbook/identity", method="POST")[0] == 405
    assert raw(endpoint, "/runbook/stop", method="POST", body=b"{}")[0] == 400


# Recorded calls and secrets ---------------------------------------------------------------------------


def events(endpoint: str, attribute: str = "", value: str = "", **more: Any) -> list[dict[str, Any]]:
    """Look up CloudTrail events, all or by one attribute, newest first."""
    asked = {"LookupAttributes": [{"AttributeKey": attribute, "AttributeValue": value}]} if attribute else {}
    found: list[dict[str, Any]] = connect(endpoint, "cloudtrail").lookup_events(**asked, **more)["Events"]
    return found


def test_cloudtrail_lists_the_calls_on_a_key(endpoint: str, kms: Any) -> None:
    """LookupEvents returns the calls on a key, newest first, with parameters, caller and resource."""
    key = external(kms, os.urandom(32), Tags=[{"TagKey": "a", "TagValue": "b"}])
    found = events(endpoint, "ResourceName", key["Arn"])
    assert ["ImportKeyMaterial", "GetParametersForImport", "CreateKey"] == [event["EventName"] for event in found]
    imported, asked, created = (json.loads(event["CloudTrailEvent"]) for event in found)
    assert {"keyId": key["KeyId"], "wrappingAlgorithm": "RSAES_OAEP_SHA_256", "wrappingKeySpec": "RSA_2048"} == asked[
        "requestParameters"
    ]
    assert imported["requestParameters"]["expirationModel"] == "KEY_MATERIAL_DOES_NOT_EXPIRE"
    assert created["requestParameters"]["origin"] == "EXTERNAL"
    assert {"kms.amazonaws.com"} == {event["EventSource"] for event in found}
    assert ("AssumedRole", False, [key["Arn"]]) == (
        created["userIdentity"]["type"], created["readOnly"], [entry["ARN"] for entry in created["resources"]],
    )  # fmt: skip


def test_cloudtrail_shows_what_failed(endpoint: str, kms: Any) -> None:
    """A failed call is an event with its error code."""
    key = external(kms)
    refusal(kms.encrypt, KeyId=key["KeyId"], Plaintext=b"x")
    (event,) = events(endpoint, "EventName", "Encrypt")
    assert json.loads(event["CloudTrailEvent"])["errorCode"] == "KMSInvalidStateException"


def test_cloudtrail_attributes_times_and_pages(endpoint: str, kms: Any) -> None:
    """One attribute filters, times limit, a page has up to 50 events; invalid values are rejected."""
    trail = connect(endpoint, "cloudtrail")
    for _ in range(7):
        kms.list_keys()
    advance(endpoint, hours=2)
    kms.list_aliases()
    late = events(endpoint, StartTime=now(endpoint) - timedelta(hours=1))
    assert ["ListAliases"] == [event["EventName"] for event in late if event["EventSource"] == "kms.amazonaws.com"]
    assert events(endpoint, EndTime=now(endpoint) - timedelta(days=1)) == []
    by_name = {"LookupAttributes": [{"AttributeKey": "EventName", "AttributeValue": "ListKeys"}], "MaxResults": 3}
    pages = list(trail.get_paginator("lookup_events").paginate(**by_name))
    assert ([3, 3, 1], 7) == (
        [len(page["Events"]) for page in pages], len({event["EventId"] for page in pages for event in page["Events"]}),
    )  # fmt: skip
    two = [{"AttributeKey": "EventName", "AttributeValue": "A"}, {"AttributeKey": "ReadOnly", "AttributeValue": "true"}]
    assert refusal(trail.lookup_events, LookupAttributes=two) == "InvalidLookupAttributesException"
    assert refusal(trail.lookup_events, MaxResults=51) == "InvalidMaxResultsException"
    assert refusal(trail.lookup_events, NextToken="garbage") == "InvalidNextTokenException"
    upside_down = {"StartTime": now(endpoint), "EndTime": now(endpoint) - timedelta(hours=1)}
    assert refusal(trail.lookup_events, **upside_down) == "InvalidTimeRangeException"


def test_cloudtrail_is_per_region_and_account(endpoint: str, kms: Any) -> None:
    """Events appear only in their Region and account."""
    kms.list_keys()
    by_name = {"LookupAttributes": [{"AttributeKey": "EventName", "AttributeValue": "ListKeys"}]}
    elsewhere = connect(endpoint, "cloudtrail", region=OTHER_REGION).lookup_events(**by_name)["Events"]
    other = connect(endpoint, "cloudtrail", account=account_of_seat(1)).lookup_events(**by_name)["Events"]
    assert ([], [], 1) == (elsewhere, other, len(events(endpoint, "EventName", "ListKeys")))


def forms(secret: bytes) -> list[str]:
    """Return the forms in which these bytes could appear in a log."""
    return [secret.hex(), base64.b64encode(secret).decode().rstrip("="), repr(secret)[2:-1]]


def test_no_secret_in_log_or_record(world: Any) -> None:
    """The sandbox's log, recorded calls and CloudTrail contain no key material, token, plaintext or password."""
    kms, material = world.client("kms"), os.urandom(32)
    key = external(kms)
    pair = kms.get_parameters_for_import(KeyId=key["KeyId"], **WRAPPING)
    encrypted = wrap(pair["PublicKey"], material)
    kms.import_key_material(
        KeyId=key["KeyId"], ImportToken=pair["ImportToken"], EncryptedKeyMaterial=encrypted, **FOREVER
    )
    data = kms.generate_data_key(KeyId=key["KeyId"], KeySpec="AES_256")
    kms.decrypt(CiphertextBlob=data["CiphertextBlob"])
    kms.encrypt(KeyId=key["KeyId"], Plaintext=data["Plaintext"])
    with pytest.raises(ClientError):
        kms.import_key_material(KeyId=key["KeyId"], ImportToken=material, EncryptedKeyMaterial=encrypted, **FOREVER)
    password = "correct horse battery staple"  # noqa: S105
    world.client("secretsmanager").create_secret(Name="mine", SecretString=password)
    rds, chosen = world.client("rds"), {"Engine": "aurora-mysql", "MasterUsername": "chief"}
    rds.create_db_cluster(DBClusterIdentifier="mine", MasterUserPassword=password, **chosen)
    rds.modify_db_cluster(DBClusterIdentifier="mine", MasterUserPassword=password + "!")
    log = Path(world.folder / sandbox_process.LOG_NAME).read_text()
    record = json.dumps(world.ask("/runbook/calls"))
    trail = json.dumps(world.client("cloudtrail").lookup_events()["Events"], default=str)
    assert all("ImportKeyMaterial" in text and "ModifyDBCluster" in text for text in (record, trail))
    for secret in (material, encrypted, pair["ImportToken"], data["Plaintext"], password.encode()):
        for form in (*forms(secret), secret.decode("latin-1")):
            assert not any(form[:40] in text for text in (log, record, trail))


def test_recorded_calls(endpoint: str, kms: Any) -> None:
    """/runbook/calls lists the calls since a number, for an account if given, with their outcome."""
    first = external(kms)
    last = ask(endpoint, "/runbook/calls")["calls"][-1]["n"]
    refusal(kms.encrypt, KeyId=first["KeyId"], Plaintext=b"x")
    external(connect(endpoint, account=account_of_seat(1)))
    calls = ask(endpoint, f"/runbook/calls?since={last}")["calls"]
    assert [("Encrypt", "KMSInvalidStateException"), ("CreateKey", None)] == [
        (call["operation"], call["outcome"]["code"]) for call in calls
    ]
    mine = ask(endpoint, f"/runbook/calls?since={last}&account={account_of_seat(1)}")["calls"]
    assert ["CreateKey"] == [call["operation"] for call in mine]
    ask(endpoint, "/runbook/calls", method="DELETE")
    assert [] == ask(endpoint, "/runbook/calls")["calls"]
