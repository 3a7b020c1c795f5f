"""The walls of a room: what one learner's token opens, and what it does not. Each refusal has a twin that is answered."""

from __future__ import annotations

import gzip
import hmac
import json
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode, urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from runbook_lib.aws import sandbox_process, seat_file
from runbook_lib.aws.sandbox_accounts import account_of_seat, exercise_account, role_arn
from runbook_lib.aws.session import sandbox_session
from runbook_lib.errors import AccessDenied, PrivateFileUnsafe, SandboxEnded, SandboxUnavailable
from runbook_sandbox.room import tokens
from runbook_sandbox.room.room import Room
from runbook_sandbox.server import control_commands
from runbook_sandbox.server.server import running

TOKENS = {0: "trai-nert-oken-aaaa", 1: "onee-onee-onee-onee", 2: "twoo-twoo-twoo-twoo"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A room of two seats, which learners also call by the name class.test."""
    with running(room=Room(TOKENS, names=["127.0.0.1", "class.test"])) as served:
        yield served
    control_commands.reset_everything()


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sends the token of another one."""
    monkeypatch.setattr(seat_file, "_here", {})
    for name in (sandbox_process.ENDPOINT_VARIABLE, "RUNBOOK_SEAT"):
        monkeypatch.delenv(name, raising=False)


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)


def ask(
    url: str, path: str, *, token: str = "", method: str = "GET", body: Any = None, form: Any = None, **headers: str
) -> tuple[int, Any, str]:
    """Send a request; return status, headers and text."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    data = None
    if form is not None:
        data, method = urlencode(form).encode(), "POST"
    elif body is not None:
        data, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        method = "POST" if method == "GET" else method
    if token:
        sent["x-runbook-token"] = token
    request = urllib.request.Request(url + path, data=data, method=method, headers=sent)  # noqa: S310 - http
    try:
        with _opener.open(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


def client(url: str, service: str, *, token: str, account: str = "", **keys: str) -> Any:
    """Return a plain client that sends a token, and an account if one is given."""
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", **keys}
    made = boto3.client(
        service, endpoint_url=url, region_name="eu-west-2", config=Config(retries={"max_attempts": 0}), **keys
    )

    def sign(request: Any, **_: Any) -> None:
        request.headers["x-runbook-token"] = token
        if account:
            request.headers["x-moto-account-id"] = account

    made.meta.events.register("before-sign", sign)
    return made


def code(call: Any, **given: Any) -> str:
    """Return the error code of a call, or ok."""
    try:
        call(**given)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "ok"


def enter(url: str, token: str) -> str:
    """Enter the page with a token; return the cookie to send."""
    status, headers, _ = ask(url, "/room/enter", form={"token": token})
    assert 303 == status
    cookie = SimpleCookie(headers["Set-Cookie"])["runbook-room"]
    return f"runbook-room={cookie.value}"


# Accounts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["kms", "rds"])
def test_a_seat_has_its_own_accounts_only(url: str, service: str) -> None:
    """JSON and XML: its own, and that of its exercises, are answered; another seat's, and the default one, are refused."""
    call = {"kms": "list_keys", "rds": "describe_db_clusters"}[service]

    def with_account(account: str) -> str:
        return code(getattr(client(url, service, token=TOKENS[1], account=account), call))

    own, other = account_of_seat(1), account_of_seat(2)
    assert ["ok"] * 3 == [with_account(one) for one in (own, exercise_account(own), "")]
    assert ["RoomRefused"] * 3 == [with_account(one) for one in (other, exercise_account(other), "123456789012")]
    assert "ok" == code(getattr(client(url, service, token=TOKENS[0], account=other), call))


@pytest.mark.parametrize("token", ["", "onee-onee-onee-onef", TOKENS[1] + "a"], ids=["none", "wrong", "longer"])
def test_without_the_right_token_nothing_is_answered(url: str, token: str) -> None:
    """Not even the identity; with it, capitals, blanks and hyphens do not matter."""
    assert "RoomRefused" == code(client(url, "kms", token=token, account=account_of_seat(1)).list_keys)
    assert 403 == ask(url, "/runbook/identity", token=token)[0]
    assert "ok" == code(client(url, "kms", token="ONEE oneeonee-onee", account=account_of_seat(1)).list_keys)  # noqa: S106


def test_no_account_means_the_seat_s_own(url: str) -> None:
    """What a client without the header creates is in the seat's account, and in no other."""
    arn = client(url, "kms", token=TOKENS[1]).create_key()["KeyMetadata"]["Arn"]
    assert f":{account_of_seat(1)}:" in arn


def test_the_key_of_another_seat_cannot_be_read_by_its_arn(url: str) -> None:
    """Its own can."""
    arn = client(url, "kms", token=TOKENS[2]).create_key()["KeyMetadata"]["Arn"]
    assert "ok" == code(client(url, "kms", token=TOKENS[2]).describe_key, KeyId=arn)
    assert "ok" != code(client(url, "kms", token=TOKENS[1]).describe_key, KeyId=arn)
    assert "ok" != code(client(url, "kms", token=TOKENS[1]).schedule_key_deletion, KeyId=arn, PendingWindowInDays=7)


def test_a_role_of_another_seat_cannot_be_assumed(url: str) -> None:
    """Its trust policy would permit it; the seat's own role can."""
    sts = client(url, "sts", token=TOKENS[1])
    for number, expected in ((2, "RoomRefused"), (1, "ok")):
        given = {"RoleArn": role_arn(account_of_seat(number)), "RoleSessionName": "learner"}
        assert expected == code(sts.assume_role, **given)


@pytest.mark.parametrize("spelling", ["plain", "percent", "escaped", "gzip"])
def test_a_resource_of_another_seat_cannot_be_reached_by_its_arn(url: str, spelling: str) -> None:
    """moto finds an SNS topic in the account of its ARN, whoever asks; however the ARN is spelled."""
    topic = client(url, "sns", token=TOKENS[2]).create_topic(Name=f"of-two-{spelling}")["TopicArn"]
    if spelling == "plain":
        assert "RoomRefused" == code(client(url, "sns", token=TOKENS[1]).delete_topic, TopicArn=topic)
    else:
        form = urlencode({"Action": "DeleteTopic", "TopicArn": topic}).replace("200000000002", "2%30000000000%32")
        text = json.dumps({"TopicArn": topic}).replace("200000000002", "2000000\\u00300002")
        data, kind = (
            (form, "application/x-www-form-urlencoded")
            if spelling in ("percent", "gzip")
            else (text, "application/x-amz-json-1.0")
        )
        headers = {"x-runbook-token": TOKENS[1], "Content-Type": kind, "X-Amz-Target": "SNS.DeleteTopic",
                   "Authorization": "AWS4-HMAC-SHA256 Credential=x/20270101/eu-west-2/sns/aws4_request, x"}  # fmt: skip
        sent = data.encode()
        if spelling == "gzip":
            sent, headers = (
                gzip.compress(urlencode({"Action": "DeleteTopic", "TopicArn": topic}).encode()),
                {**headers, "Content-Encoding": "gzip"},
            )
        with pytest.raises(urllib.error.HTTPError, match="403"):
            _opener.open(urllib.request.Request(url, data=sent, headers=headers), timeout=30)  # noqa: S310 - http
    assert "ok" == code(client(url, "sns", token=TOKENS[2]).get_topic_attributes, TopicArn=topic)
    assert "ok" == code(client(url, "sns", token=TOKENS[2]).delete_topic, TopicArn=topic)


def test_the_bucket_of_another_seat_is_closed(url: str) -> None:
    """Bucket names have no account in them."""
    given = {"Bucket": "of-two", "CreateBucketConfiguration": {"LocationConstraint": "eu-west-2"}}
    client(url, "s3", token=TOKENS[2]).create_bucket(**given)
    assert "ok" == code(client(url, "s3", token=TOKENS[2]).list_objects_v2, Bucket="of-two")
    assert "ok" != code(client(url, "s3", token=TOKENS[1]).list_objects_v2, Bucket="of-two")


# Control paths ----------------------------------------------------------------------------------------------------------

CONTROL = [
    ("GET", "/runbook/clock", None), ("POST", "/runbook/clock", {"advance_seconds": 0}), ("GET", "/runbook/calls", None),
    ("GET", f"/runbook/calls?account={account_of_seat(1)}", None), ("GET", "/runbook/messages", None),
    ("GET", "/runbook/faults", None), ("DELETE", "/runbook/faults", None), ("GET", "/runbook/iam", None),
    ("POST", "/runbook/seats/1/reset", {}), ("POST", "/runbook/seats/2/reset", {}),
    ("POST", "/runbook/progression", {"mode": "immediate"}), ("GET", "/moto-api/data.json", None),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), CONTROL, ids=[f"{one[0]} {one[1]}" for one in CONTROL])
def test_clock_faults_calls_and_resets_are_the_trainer_s(url: str, method: str, path: str, body: Any) -> None:
    """A learner's token is refused, the trainer's is not."""
    status, _, text = ask(url, path, token=TOKENS[1], method=method, body=body)
    assert (403, True) == (status, "is for the trainer" in text)
    assert 200 == ask(url, path, token=TOKENS[0], method=method, body=body)[0]


@pytest.mark.parametrize(
    "path",
    ["//moto-api/reset", "/moto-api//reset", "/MOTO-API/reset", "/%6doto-api/reset", "/moto-api/", "/runbook/stop"],
)
def test_no_spelling_of_a_control_path_gets_around_the_wall(url: str, path: str) -> None:
    """And the sandbox has not been reset: its id is the same."""
    before = json.loads(ask(url, "/runbook/identity", token=TOKENS[0])[2])["sandbox_id"]
    body = {"sandbox_id": before} if path == "/runbook/stop" else {}
    assert 403 == ask(url, path, token=TOKENS[1], method="POST", body=body)[0]
    assert before == json.loads(ask(url, "/runbook/identity", token=TOKENS[0])[2])["sandbox_id"]


@pytest.mark.parametrize(
    "host", ["evil.test", "10.1.2.3", "class.test.evil.test", "x.localhost", "", "[::1", "localhost"]
)
def test_other_host_names_are_refused(url: str, host: str) -> None:
    """DNS rebinding: a page of another name reaches nothing, with whatever token; the given names are answered."""
    for path in ("/room", "/runbook/identity"):
        assert 403 == ask(url, path, token=TOKENS[0], Host=host)[0]
        assert 200 == ask(url, path, token=TOKENS[0], Host=f"class.test:{urlsplit(url).port}")[0]


def test_a_page_of_another_site_cannot_press_a_button(url: str) -> None:
    """With the trainer's cookie: its Origin is refused, the room's own is not."""
    cookie = enter(url, TOKENS[0])
    for origin, expected in (("http://evil.test", 403), ("null", 403), (url, 200)):
        given = {"do": "clock", "body": {"advance_seconds": 0}}
        assert expected == ask(url, "/room/do", body=given, Cookie=cookie, Origin=origin)[0]


# Pages ------------------------------------------------------------------------------------------------------------------


def test_the_page_takes_the_token_once_and_keeps_a_cookie_that_no_script_reads(url: str) -> None:
    """HttpOnly, SameSite=Strict, not the token; a wrong token sets none."""
    _, headers, _ = ask(url, "/room/enter", form={"token": TOKENS[0]})
    assert {"HttpOnly", "SameSite=Strict", "Path=/room"} <= {part.strip() for part in headers["Set-Cookie"].split(";")}
    assert TOKENS[0] not in str(headers)
    status, headers, text = ask(url, "/room/enter", form={"token": "wrong"})
    assert (403, None, True) == (status, headers["Set-Cookie"], "belongs to no seat" in text)


@pytest.mark.parametrize(("method", "path"), [("GET", "/room/state"), ("POST", "/room/do")], ids=["state", "do"])
def test_the_trainer_s_page_is_the_trainer_s(url: str, method: str, path: str) -> None:
    """Not without a cookie, not with a learner's, and not with a token in the address."""
    body = {"do": "clear_faults"} if method == "POST" else None
    for cookie in ("runbook-room=x", enter(url, TOKENS[1])):
        assert 403 == ask(url, path, body=body, method=method, Cookie=cookie)[0]
    assert 403 == ask(url, f"{path}?token={TOKENS[0]}", body=body, method=method)[0]
    assert 200 == ask(url, path, body=body, method=method, Cookie=enter(url, TOKENS[0]))[0]


def test_leaving_ends_what_a_cookie_opens(url: str) -> None:
    """Also in a copy of it."""
    cookie = enter(url, TOKENS[0])
    assert 200 == ask(url, "/room/state", Cookie=cookie)[0]
    assert 303 == ask(url, "/room/leave", form={}, Cookie=cookie)[0]
    assert 403 == ask(url, "/room/state", Cookie=cookie)[0]


def test_a_learner_sees_the_own_seat_only(url: str) -> None:
    """The report of seat 2 reaches the trainer's page and seat 2, not seat 1."""
    assert 200 == ask(url, "/room/report", token=TOKENS[2], body={"name": "Grace"})[0]
    seen = {who: ask(url, "/room/seat", Cookie=enter(url, TOKENS[who]))[2] for who in (1, 2)}
    assert [False, True] == ["Grace" in seen[1], "Grace" in seen[2]]
    assert "Grace" in ask(url, "/room/state", Cookie=enter(url, TOKENS[0]))[2]
    assert "Grace" not in ask(url, "/room", Cookie=enter(url, TOKENS[1]))[2]


def test_a_name_is_escaped(url: str) -> None:
    """On the learner's page, where the server writes it: text, no element."""
    ask(url, "/room/report", token=TOKENS[1], body={"name": "<img src=x onerror=alert(1)>"})
    text = ask(url, "/room", Cookie=enter(url, TOKENS[1]))[2]
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    assert "<img" not in text


@pytest.mark.parametrize(
    "body", [[], "x", 1, {"steps": 1, "answers": [1], "tasks": {"a": 1}, "order": "x", "name": {}}]
)
def test_a_report_of_wrong_shape_breaks_nothing(url: str, body: Any) -> None:
    """It is refused or ignored, never a 500, and the trainer's page still shows."""
    assert ask(url, "/room/report", token=TOKENS[1], body=body)[0] in (200, 400)
    assert 200 == ask(url, "/room/state", Cookie=enter(url, TOKENS[0]))[0]


# Resets and orders ------------------------------------------------------------------------------------------------------


def test_a_reset_seat_tells_open_notebooks_so(url: str) -> None:
    """A session from before it gets one sentence; one from after it works, and other seats notice nothing."""
    open_before = {}
    for number in (1, 2):
        seat_file.remember(seat_file.Seat(url, number, TOKENS[number]))
        open_before[number] = sandbox_session(
            sandbox_process.identify(url), region="eu-west-2", account_id=account_of_seat(number)
        )
        open_before[number].client("kms").list_keys()
    done = ask(url, "/room/do", body={"do": "reset", "seat": 1}, Cookie=enter(url, TOKENS[0]))
    assert "seat 1, account 200000000001, is empty" in done[2]
    open_before[2].client("kms").list_keys()
    seat_file.remember(seat_file.Seat(url, 1, TOKENS[1]))
    for service, call in (("kms", "list_keys"), ("rds", "describe_db_clusters")):
        with pytest.raises(SandboxEnded, match=r"the trainer has reset this seat: .* run 00 again"):
            getattr(open_before[1].client(service), call)()
    after = sandbox_session(sandbox_process.identify(url), region="eu-west-2", account_id=account_of_seat(1))
    assert [] == after.client("kms").list_keys()["Keys"]


def test_another_account_in_a_session_is_refused_in_one_line(url: str) -> None:
    """The library's own error, with what to do."""
    seat_file.remember(seat_file.Seat(url, 1, TOKENS[1]))
    found = sandbox_process.identify(url)
    with pytest.raises(AccessDenied, match=r"account 200000000002 is not one of seat 1, .* use that account"):
        sandbox_session(found, region="eu-west-2", account_id=account_of_seat(2)).client("kms").list_keys()


def test_an_order_is_given_until_the_lab_has_done_it(url: str) -> None:
    """To the seat that it is for, and to no other; the page shows how it ended."""
    cookie = enter(url, TOKENS[0])
    assert (
        200
        == ask(url, "/room/do", body={"do": "forward", "seat": 2, "step": "04_import_key_material"}, Cookie=cookie)[0]
    )

    def report(number: int, **more: Any) -> Any:
        return json.loads(ask(url, "/room/report", token=TOKENS[number], body={"name": "x", **more})[2])["order"]

    assert report(1) is None
    order = report(2)
    assert ("04_import_key_material", "waiting") == (order["forward"], order["state"])
    assert "running" == report(2, order={"id": order["id"], "state": "running", "line": ""})["state"]
    assert report(2, order={"id": order["id"], "state": "done", "line": "moved"}) is None
    (seat,) = [one for one in json.loads(ask(url, "/room/state", Cookie=cookie)[2])["seats"] if one["seat"] == 2]
    assert ("", "moved") == (seat["order"], seat["outcome"])


@pytest.mark.parametrize(
    "command", [{"do": "forward", "seat": 9, "step": "04_import_key_material"}, {"do": "forward", "seat": 1, "step": "x"},
                {"do": "reset", "seat": "1"}, {"do": "clock", "body": {"advance_seconds": "x"}}, {"do": "fault"}, {"do": "fly"}],
    ids=["no such seat", "no such step", "a text", "no number", "no body", "no such action"],
)  # fmt: skip
def test_a_wrong_order_of_the_trainer_is_told(url: str, command: Any) -> None:
    """400 with a reason; nothing is done."""
    status, _, text = ask(url, "/room/do", body=command, Cookie=enter(url, TOKENS[0]))
    assert (400, True) == (status, bool(json.loads(text)["error"]))


# Files and tokens -------------------------------------------------------------------------------------------------------


def test_tokens_are_kept_in_files_that_only_their_owner_reads(tmp_path: Any) -> None:
    """Drawn once: a second room of the folder has the same; more seats get more."""
    first = tokens.load(tmp_path, 2)
    slips = tokens.write_slips(tmp_path, "http://127.0.0.1:1", first)
    for path in (tmp_path / "_room" / "room.json", slips):
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert first[0] not in slips.read_text()
    assert first[2] in slips.read_text()
    more = tokens.load(tmp_path, 3)
    assert first == {number: more[number] for number in (0, 1, 2)}
    assert 4 == len(set(more.values()))


def test_every_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With each token, also after the right one was found."""
    known, compared = tokens.Tokens(TOKENS), []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: compared.append(1) or real(one, other))
    assert [0, 1, None] == [known.owner(TOKENS[0]), known.owner(TOKENS[1]), known.owner("x")]
    assert 9 == len(compared)


def test_a_seat_is_a_private_file(tmp_path: Any) -> None:
    """0600; one that others can read, or a damaged one, is refused; the token shows in no repr."""
    seat = seat_file.Seat("http://127.0.0.1:1", 7, TOKENS[1], "Ada")
    seat_file.write(tmp_path, seat)
    file = tmp_path / "seat.json"
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert seat == seat_file.read(tmp_path)
    assert TOKENS[1] not in repr(seat)
    file.chmod(0o640)
    with pytest.raises(PrivateFileUnsafe, match="chmod 600"):
        seat_file.read(tmp_path)
    file.chmod(0o600)
    file.write_text("{}")
    with pytest.raises(SandboxUnavailable, match="is damaged; delete it"):
        seat_file.read(tmp_path)


def test_a_room_that_does_not_answer_is_named(tmp_path: Any) -> None:
    """With how to leave it; no sandbox is started in its place."""
    seat_file.write(tmp_path, seat_file.Seat("http://127.0.0.1:9", 7, TOKENS[1]))
    with pytest.raises(SandboxUnavailable, match=r"ask the trainer, or leave the room: delete .*seat\.json"):
        sandbox_process.find(tmp_path)


def test_the_token_goes_to_the_room_only(url: str) -> None:
    """No header for any other address."""
    seat_file.remember(seat_file.Seat(url, 1, TOKENS[1]))
    assert {"x-runbook-token": TOKENS[1]} == seat_file.headers(f"{url}/runbook/identity")
    assert {} == seat_file.headers("http://127.0.0.1:1")


# Commands ---------------------------------------------------------------------------------------------------------------


def test_every_address_needs_a_name(world: Any) -> None:
    """Exit 2 before anything is written: with 0.0.0.0 nobody knows which Host names are the room's own."""
    done = world.runbook("room", "--host", "0.0.0.0", code=2)  # noqa: S104
    assert "--host: 0.0.0.0 is every address; say with --name" in done.stderr
    assert [] == list(world.folder.iterdir())


@pytest.mark.slow
def test_a_seat_is_taken_with_its_token_only(world: Any, url: str) -> None:
    """A wrong token, another seat's, or a token on the command line: one line, no file, and no token in it."""
    file = world.folder.parent / "token"
    file.touch(mode=0o600)
    for text, code_, said in (
        ("wrong", 1, "has no valid token"),
        (TOKENS[2], 1, "is not one of seat 2"),
        (TOKENS[1], 0, ""),
    ):
        file.write_text(text + "\n")
        done = world.runbook("seat", "1", "--room", url, "--token-from", f"file:{file}", code=code_)
        assert said in done.stderr
        assert text not in done.stdout + done.stderr.replace("wrong usage", "")
        assert (code_ == 0) == (world.folder / "seat.json").exists()
    refused = world.runbook("room", "--port", "0", code=2).stderr  # a trainer in the folder of a learner
    assert f"is seat 1 of {url}; choose another folder for the room" in refused
    assert (world.folder / "seat.json").exists()
    (world.folder / "seat.json").unlink()
    done = world.runbook("seat", "1", "--room", url, "--token-from", TOKENS[1], code=2)
    assert TOKENS[1] not in done.stdout + done.stderr
    for address in ("10.0.0.5:5000", "http://me:secret@10.0.0.5:5000", "http://10.0.0.5:5000/room?token=x"):
        assert "is not the address of a room" in world.runbook("seat", "1", "--room", address, code=2).stderr


@pytest.mark.slow
def test_a_room_prints_no_token_and_takes_its_control_commands(world: Any) -> None:
    """On the trainer's machine `runbook sandbox advance` works, from a learner's folder it does not; at the end no seat stays."""
    process = subprocess.Popen(
        [sys.executable, "-m", "runbook_cli.main", "room", "--seats", "2", "--port", "0", "--runs-dir", str(world.folder)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        printed = [process.stdout.readline() for _ in range(4)]
        drawn = tokens.load(world.folder, 2)
        assert [False] * 3 == [token in "".join(printed) for token in drawn.values()]
        assert "clock is now" in world.runbook("sandbox", "advance", "1h").stdout
        found = seat_file.read(world.folder)
        assert found is not None
        seat_file.write(world.folder, seat_file.Seat(found.url, 2, drawn[2]))
        assert "is for the trainer" in world.runbook("sandbox", "advance", "1h", code=2).stderr
    finally:
        process.terminate()
        rest, _ = process.communicate(timeout=20)
    assert "" == rest
    assert not (world.folder / "seat.json").exists()
