"""Inputs of 11: the confirmation, how writers are stopped, and the way back."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from runbook_lib.inputs.base import Inputs, choice

CLOSE, STOPPED_BEFORE = "close_network", "stopped_before_snapshot"
NOT_COMPARED = "not_compared"


class CutOverInputs(Inputs):
    """11_cut_over: whether to give the names away or back, and what the operator says about writers and rows."""

    remembered: ClassVar[bool] = False
    typed_each_time: ClassVar[frozenset[str]] = frozenset(
        {"confirm_source_db_cluster_identifier", "writers_let_in", "row_counts"}
    )

    confirm_source_db_cluster_identifier: str = choice(
        "Type its name to confirm",
        "DB cluster identifier of the existing cluster. Empty: the plan is shown, nothing changes.",
        "",
    )
    roll_back: bool = choice("Roll back", "Give the names back to the clusters that had them.", False)
    writers: Literal["close_network", "stopped_by_operator", "stopped_before_snapshot"] = choice(
        "Writers",
        "close_network: this step closes the network of the existing cluster and reboots its writer. stopped_by_operator: "
        "you stopped them, and let nobody in until the names have changed. "
        "stopped_before_snapshot: you stopped them before the snapshot of 10, which is then the last one.",
        "close_network",
    )
    row_counts: Literal["not_compared", "equal", "different"] = choice(
        "Row counts", "What your comparison of both clusters found; the report names it as yours.", "not_compared"
    )
    writers_let_in: bool = choice(
        "Writers let in", "True once the new cluster takes writes: rolling back would lose them, and is refused.", False
    )
    wait_timeout_minutes: int = choice(
        "Maximum wait", "Minutes for the last snapshot, the restore and each rename.", 360, ge=1, le=1440
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.roll_back and self.writers_let_in:
            raise ValueError(
                "writers_let_in: true with roll_back: what was written to the new cluster would be lost; copy it first, then "
                "say false"
            )
        if self.row_counts == "different" and not self.roll_back:
            raise ValueError("row_counts: 'different' cannot be cut over; find out why, or run 10 again")
        return self
