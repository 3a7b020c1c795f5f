"""Names that are derived from others, and engine versions, are judged before a key exists."""

from __future__ import annotations

from typing import Any

import pytest
from walk import Walk

from runbook_lib.aws import offers
from runbook_lib.errors import InputError, PreflightFailed
from runbook_lib.inputs.rds import CreateClusterInputs

MYSQL, POSTGRESQL = "aurora-mysql", "aurora-postgresql"


@pytest.mark.parametrize(("length", "readers", "accepted"), [
    (61, 0, True), (62, 0, False), (61, 8, True), (61, 9, False), (60, 9, True), (60, 15, True), (61, 15, False),
])  # fmt: skip
def test_a_cluster_identifier_leaves_room_for_those_of_its_instances(length: int, readers: int, accepted: bool) -> None:
    """`-1` to `-10` and more are added, and an instance identifier has at most 63 characters."""
    given: dict[str, Any] = {"db_cluster_identifier": "a" * length, "reader_count": readers}
    if accepted:
        assert "a" * length == CreateClusterInputs.check(given).db_cluster_identifier
        return
    with pytest.raises(InputError, match=f"write at most {61 - (readers > 8)}"):
        CreateClusterInputs.check(given)


@pytest.mark.parametrize(("engine", "asked", "created"), [
    (POSTGRESQL, "16", "16."), (POSTGRESQL, "16.8", "16.8"), (MYSQL, "8.0", "8.0.mysql_aurora.3."),
])  # fmt: skip
def test_a_series_is_completed_as_rds_does(walk: Walk, engine: str, asked: str, created: str) -> None:
    """And what RDS does not offer is refused with what it does."""
    session = walk.start().step("05").session
    found = offers.choose_engine_version(session, engine=engine, engine_version=asked)
    assert found.startswith(created)
    assert found in [one["EngineVersion"] for one in offers.engine_versions(session, engine)]
    for wrong in ("5.6", "1", "16x"):
        with pytest.raises(PreflightFailed, match="is not available"):
            offers.choose_engine_version(session, engine=engine, engine_version=wrong)
