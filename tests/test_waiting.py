"""The wait for clusters: one call for all of them, told at once when it is hopeless, patient otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from runbook_lib.aws import waiting
from runbook_lib.aws.waiting import HOPELESS, Watch, wait_until_available
from runbook_lib.errors import WaitFailed, WaitTimedOut
from runbook_lib.inputs.rds import VerifyEncryptionInputs

CLUSTERS, INSTANCES = "describe_db_clusters", "describe_db_instances"


class Rds:
    """An RDS that answers from `states` (cluster: its status and those of its instances), and notes what it was asked."""

    def __init__(self, **states: tuple[str, ...]) -> None:
        self.states = states
        self.asked: list[tuple[str, list[str]]] = []
        self.down = 0

    def client(self, _: str) -> Any:
        return SimpleNamespace(
            get_paginator=lambda operation: SimpleNamespace(
                paginate=lambda **request: self._pages(operation, request["Filters"][0]["Values"])
            )
        )

    def _pages(self, operation: str, names: list[str]) -> Iterator[dict[str, Any]]:
        self.asked.append((operation, names))
        if self.down:
            self.down -= 1
            raise EndpointConnectionError(endpoint_url="https://rds")
        there = [name for name in names if name in self.states]
        if operation == CLUSTERS:
            for name in there:
                yield {"DBClusters": [{"DBClusterIdentifier": name, "Status": self.states[name][0]}]}
        else:
            for name in there:
                for number, status in enumerate(self.states[name][1:], 1):
                    found = {"DBInstanceIdentifier": f"{name}-{number}", "DBInstanceStatus": status}
                    yield {"DBInstances": [{**found, "DBClusterIdentifier": name}]}


def watch(rds: Rds, *, instances: int = 1) -> Watch:
    made = Watch(rds)  # type: ignore[arg-type]
    for name in rds.states:
        made.add(name, instances=instances)
    return made


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept, without sleeping; the clock goes on by as much."""
    slept: list[float] = []
    monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=lambda: sum(slept), sleep=slept.append))
    return slept


def wait(rds: Rds, *, instances: int = 1, minutes: float = 60, **more: Any) -> dict[str, str]:
    return wait_until_available(
        rds,  # type: ignore[arg-type]
        "one",
        instances=instances,
        timeout_minutes=minutes,
        poll_seconds=30,
        **more,
    )


def test_the_help_says_what_is_waited() -> None:
    """The seconds that the form and the parameters cell name for 0 are those that are waited."""
    said = str(VerifyEncryptionInputs.model_fields["poll_seconds"].description)
    aws, sandbox = (f"{waiting.poll_interval(target, 0):g}" for target in ("aws", "sandbox"))
    assert f"Seconds between two polls. 0: {aws} on AWS, {sandbox} in the sandbox." == said
    assert 5.0 == waiting.poll_interval("sandbox", 5)


def test_a_hundred_clusters_that_are_being_created_are_one_call() -> None:
    """However many are waited for: one describe call for each look."""
    rds = Rds(**{f"c{number}": ("creating", "creating") for number in range(100)})
    waited = watch(rds)
    waited.poll()
    waited.poll()
    assert [(CLUSTERS, 100), (CLUSTERS, 100)] == [(operation, len(names)) for operation, names in rds.asked]
    assert not any(waited.is_available(name) for name in rds.states)


def test_more_than_a_filter_takes_are_asked_for_in_parts() -> None:
    """A filter holds a hundred names; the hundred and first goes with a second call."""
    rds = Rds(**{f"c{number}": ("creating",) for number in range(101)})
    watch(rds).poll()
    assert [100, 1] == [len(names) for _, names in rds.asked]


def test_instances_are_asked_for_once_their_cluster_is_there_and_clusters_no_longer() -> None:
    """Each cluster is in one of two calls: with those that are being created, or with those whose instances are."""
    rds = Rds(early=("available", "creating"), late=("creating", "creating"))
    waited = watch(rds)
    waited.poll()
    rds.asked.clear()
    waited.poll()
    assert [(CLUSTERS, ["late"]), (INSTANCES, ["early"])] == rds.asked
    rds.states["early"] = ("available", "available")
    waited.poll()
    assert {"early": True, "late": False} == {name: waited.is_available(name) for name in rds.states}


def test_nothing_is_asked_once_nothing_is_waited_for() -> None:
    """A cluster that was removed is not asked for again."""
    rds = Rds(one=("creating",))
    waited = watch(rds)
    waited.remove("one")
    waited.poll()
    assert [] == rds.asked


def test_available_means_the_cluster_and_every_instance() -> None:
    """A reader that is not there yet, or not available yet, is waited for."""
    rds = Rds(one=("available", "available"))
    waited = watch(rds, instances=2)
    waited.poll()
    assert not waited.is_available("one")
    rds.states["one"] = ("available", "available", "creating")
    waited.poll()
    assert not waited.is_available("one")
    rds.states["one"] = ("available", "available", "available")
    waited.poll()
    assert waited.is_available("one")


@pytest.mark.parametrize("status", HOPELESS)
@pytest.mark.parametrize("where", ["cluster", "instance"])
def test_what_cannot_become_available_ends_the_wait_at_once(naps: list[float], status: str, where: str) -> None:
    """AWS's waiter would go on for half an hour; here the first look says so, with what to do."""
    rds = Rds(one=(status, "creating") if where == "cluster" else ("available", status))
    with pytest.raises(WaitFailed, match=f"{where} one.* is {status}: "):
        wait(rds)
    assert [] == naps


def test_a_cluster_that_has_gone_ends_the_wait(naps: list[float]) -> None:
    """Nothing is waited for that is not there; the notebook to run is named."""
    with pytest.raises(WaitFailed, match="05_create_cluster"):
        wait(Rds())
    assert [] == naps


def test_each_change_is_one_line_and_lost_connections_are_waited_out(
    naps: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """A status is printed when it changes, not at each look; no answer is no end."""
    rds = Rds(one=("creating", "creating"))
    steps = iter(
        [lambda: None, lambda: setattr(rds, "down", 1), lambda: rds.states.update(one=("available", "available"))]
    )
    naps_of_rds = naps.append
    waiting.time.sleep = lambda seconds: (naps_of_rds(seconds), next(steps)())  # type: ignore[attr-defined]
    assert {"cluster one": "available", "instance one-1": "available"} == wait(rds)
    printed = capsys.readouterr().out.splitlines()
    assert ["cluster one: creating", "no response (EndpointConnectionError), polling again"] == printed[:2]
    assert ["cluster one: available", "instance one-1: available"] == printed[2:]
    assert [30.0, 30.0, 30.0] == naps


def test_a_wait_ends_when_its_time_is_over(naps: list[float]) -> None:
    """`wait_timeout_minutes` is kept, and what was missing is named."""
    with pytest.raises(WaitTimedOut, match=r"after 2 minutes instance one-1 is creating; .*wait_timeout_minutes"):
        wait(Rds(one=("available", "creating")), minutes=2)
    assert 120 < sum(naps) <= 150


def test_where_all_is_there_already_nothing_is_said_and_nothing_held_up(naps: list[float]) -> None:
    """06, called after the runner has waited, finds nothing to wait for: two calls, no pause, no line."""
    rds, said = Rds(one=("available", "available")), []
    wait(rds, say=said.append, before_waiting=lambda: said.append("waiting"))
    assert ([], [], [CLUSTERS, INSTANCES]) == (said, naps, [operation for operation, _ in rds.asked])


def test_whoever_waits_can_make_ready_for_it(naps: list[float]) -> None:
    """`before_waiting` comes once, before the first pause, and lines are said from then on."""
    rds, said = Rds(one=("creating",)), []
    with pytest.raises(WaitTimedOut):
        wait(rds, minutes=1, say=said.append, before_waiting=lambda: said.append(f"after {len(naps)} pauses"))
    assert ["after 0 pauses", "cluster one: creating"] == said
