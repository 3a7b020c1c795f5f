"""Making a thing exactly once, whatever the connection does."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from runbook_lib.aws import create_once
from runbook_lib.errors import AccessDenied, AwsCallFailed, OutcomeUnclear
from runbook_lib.run.run import Run
from runbook_lib.steps import create_key

TARGET = {"target": "sandbox", "account_id": "123456789012", "region": "eu-west-2", "sandbox_id": "s"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(create_once.time, "sleep", lambda _: None)
    return Run.create("demo", runs_dir=tmp_path, target=TARGET)


class World:
    """An AWS that makes things and may lose its answers."""

    def __init__(self, *faults):
        self.made: list[str] = []
        self.faults = list(faults)
        self.sent = 0

    def find(self):
        return self.made[0] if self.made else None

    def create(self):
        self.sent += 1
        fault = self.faults.pop(0) if self.faults else None
        if fault == "dropped before":
            raise ConnectionClosedError(endpoint_url="http://x")
        if isinstance(fault, tuple):
            raise ClientError({"Error": {"Code": fault[0]}, "ResponseMetadata": {"HTTPStatusCode": fault[1]}}, "Create")
        self.made.append(f"thing-{len(self.made)}")
        if fault == "dropped after":
            raise ConnectionClosedError(endpoint_url="http://x")
        return self.made[-1]


def once(run, world):
    return create_once.create_once(run, "01_create_key", "kms:CreateKey", find=world.find, create=world.create)


@pytest.mark.parametrize(
    ("faults", "sent"),
    [
        ((), 1),
        (("dropped after",), 1),
        (("dropped before",), 2),
        (("dropped before", "dropped after"), 2),
        ((("ThrottlingException", 400),), 2),
        ((("KMSInternalException", 500),), 2),
    ],
)
def test_one_thing_is_made_whatever_is_lost(run, faults, sent):
    """A dropped answer is looked into; a create that took effect is never sent again."""
    world = World(*faults)
    assert once(run, world) == "thing-0"
    assert world.made == ["thing-0"]
    assert world.sent == sent
    assert not run.is_unclear("01_create_key", "kms:CreateKey")


def test_a_process_that_died_after_sending_finds_what_it_made(run, tmp_path):
    """The intent is on disk before the request: the next process searches for the resource before it creates one."""
    world = World()
    run.intend("01_create_key", "kms:CreateKey")
    world.create()
    assert once(Run.open("demo", runs_dir=tmp_path), world) == "thing-0"
    assert world.sent == 1


def test_a_process_that_died_between_the_answer_and_its_note_finds_what_it_made(run, tmp_path):
    """The answer came, the process died before the step could note the id: the next one looks, and makes no second."""
    world = World()
    once(run, world)
    assert once(Run.open("demo", runs_dir=tmp_path), world) == "thing-0"
    assert world.sent == 1


def test_what_was_made_and_then_deleted_is_made_again(run):
    """Looking finds nothing, so it is created: the record of an old create is not taken for the thing."""
    world = World()
    once(run, world)
    world.made.clear()
    assert once(run, world) == "thing-0"
    assert world.sent == 2


def test_the_intent_is_written_before_the_request(run, tmp_path):
    """Whoever dies in the middle of a create leaves a trace of it."""
    seen = []

    def create():
        seen.append(Run.open("demo", runs_dir=tmp_path).is_unclear("01_create_key", "kms:CreateKey"))
        return "x"

    create_once.create_once(run, "01_create_key", "kms:CreateKey", find=lambda: None, create=create)
    assert seen == [True]


def test_a_refusal_passes_and_is_not_unclear(run):
    """An error that says nothing was made goes to the caller, and leaves nothing to look for."""
    with pytest.raises(ClientError):
        once(run, World(("MalformedPolicyDocumentException", 400)))
    assert not run.is_unclear("01_create_key", "kms:CreateKey")


def test_when_nothing_answers_it_stops_and_says_that_it_will_look(run):
    """After the last attempt the run stops, resumably."""
    with pytest.raises(OutcomeUnclear, match="searches for the resource before it creates one"):
        once(run, World(*["dropped before"] * 9))
    assert run.is_unclear("01_create_key", "kms:CreateKey")


def test_throttling_beyond_the_budget_stops_with_what_to_do(run):
    """Throttling is waited out, but not for ever."""
    with pytest.raises(AwsCallFailed, match="wait a minute"):
        once(run, World(*[("ThrottlingException", 400)] * 9))


LOST, MALFORMED = "dropped before", ("MalformedPolicyDocumentException", 400)
SERVER, THROTTLED = ("KMSInternalException", 500), ("ThrottlingException", 400)
STEP, WHAT = "01_create_key", "kms:CreateKey"


def outcome(run, *faults, find=None, code=None):
    """Create with an identity; return the outcome and the resources that state.json then holds."""
    world = World(*faults)
    raised = pytest.raises((ClientError, OutcomeUnclear, AwsCallFailed)) if code is not None else nullcontext()
    with raised as caught:
        create_once.create_once(
            run, STEP, WHAT, find=find or world.find, create=world.create, identity="id of {}".format
        )
    if code is not None:
        assert code in str(caught.value)
    intent = Run.open(run.run_id, runs_dir=run.path.parent).intent(STEP, WHAT)
    return intent.outcome, intent.resources


@pytest.mark.parametrize(
    ("faults", "code", "expected"),
    [
        ((), None, ("made", ("id of thing-0",))),
        (("dropped after",), None, ("found", ("id of thing-0",))),
        ((LOST,), None, ("made", ("id of thing-0",))),
        ((THROTTLED,), None, ("made", ("id of thing-0",))),
        ((MALFORMED,), "Malformed", ("refused", ())),
        ((("MalformedPolicyDocumentException", 499),), "Malformed", ("refused", ())),
        ((THROTTLED, MALFORMED), "Malformed", ("refused", ())),
        ((LOST, MALFORMED), "Malformed", ("unclear", ())),
        ((SERVER, MALFORMED), "Malformed", ("unclear", ())),
        ((LOST, THROTTLED, MALFORMED), "Malformed", ("unclear", ())),
        ((LOST,) * 5, "Connection was closed", ("unclear", ())),
        ((SERVER,) * 5, "KMSInternalException", ("unclear", ())),
        ((THROTTLED,) * 5, "AWS keeps throttling (ThrottlingException", ("refused", ())),
        ((LOST, *(THROTTLED,) * 4), "AWS keeps throttling", ("unclear", ())),
        ((*(LOST,) * 4,), None, ("made", ("id of thing-0",))),
        ((*(THROTTLED,) * 4,), None, ("made", ("id of thing-0",))),
    ],
)
def test_state_json_holds_the_outcome_and_the_resource(run, faults, code, expected):
    """`refused` stands only where nothing can have been created; a lost response keeps the outcome unclear."""
    assert expected == outcome(run, *faults, code=code)


def test_a_refusal_does_not_settle_the_lost_response_of_an_earlier_process(run):
    """The other process's request may have taken effect: the next attempt has to search once more."""
    run.intend(STEP, WHAT)
    assert outcome(run, MALFORMED, find=lambda: None, code="Malformed") == ("unclear", ())


def test_what_an_earlier_process_created_is_recorded_with_its_id(run):
    """The outcome and the resource id are written together."""
    run.intend(STEP, WHAT)
    assert outcome(run, find=lambda: "key") == ("found", ("id of key",))


def test_an_error_without_a_status_is_a_refusal(run):
    """A ClientError that some layer made itself, without ResponseMetadata or without a status, is raised as it is."""
    for response in ({"Error": {"Code": "X"}}, {"Error": {"Code": "X"}, "ResponseMetadata": {}}):

        def create(response=response):
            raise ClientError(response, "Create")

        with pytest.raises(ClientError, match="An error occurred"):
            create_once.create_once(run, STEP, WHAT, find=lambda: None, create=create)
        assert run.intent(STEP, WHAT).outcome == "refused"


@pytest.mark.parametrize(
    ("target", "seconds", "searched"),
    [("aws", [1.0, 2.0, 4.0, 8.0], 6), ("sandbox", [0.1, 0.2, 0.4, 0.8], 3)],
)
def test_throttling_doubles_the_pause_and_a_lost_response_is_searched_for(
    tmp_path, monkeypatch, target, seconds, searched
):
    """On AWS for seconds, in the sandbox for tenths; a new resource gets the time to become visible."""
    slept, finds = [], []
    run = Run.create("slow", runs_dir=tmp_path, target={**TARGET, "target": target})
    monkeypatch.setattr(create_once.time, "sleep", slept.append)
    outcome(run, *(THROTTLED,) * 5, code="throttling")
    assert slept == pytest.approx(seconds)
    other = Run.create("lost", runs_dir=tmp_path, target={**TARGET, "target": target})
    assert outcome(other, LOST, find=lambda: finds.append(1))[0] == "made"
    assert len(finds) == searched


@pytest.mark.parametrize(("hours", "may_be"), [(0, True), (-20, True), (-72, False)])
def test_a_key_whose_tags_may_not_be_read_could_be_the_runs_own(run, monkeypatch, hours, may_be):
    """A new key is not made beside it, also when the clock of this machine is ahead of AWS's by some hours."""

    def denied(*_):
        raise AccessDenied("you may not call kms:ListResourceTags")

    created = datetime.fromisoformat(run.created) + timedelta(hours=hours)
    monkeypatch.setattr(create_key.kms, "tags_of", denied)
    monkeypatch.setattr(create_key.kms, "describe", lambda *_: {"CreationDate": created})
    keys = SimpleNamespace(paginate=lambda: [{"Keys": [{"KeyId": "a"}]}])
    step = SimpleNamespace(client=lambda _: SimpleNamespace(get_paginator=lambda _: keys), session=None, run=run)
    if may_be:
        with pytest.raises(AccessDenied):
            create_key.find_by_run(step)
    else:
        assert create_key.find_by_run(step) is None
