"""A run that is verified every night keeps what says something, and no more than it was told."""

from __future__ import annotations

import json
from pathlib import Path

from runbook_cli.runner.retention import keep_newest


def report(run: Path, stamp: str, *, verified: bool = True) -> None:
    (run / "reports").mkdir(exist_ok=True)
    (run / "reports" / f"{stamp}-report.json").write_text(json.dumps({"verified": verified}))
    (run / "reports" / f"{stamp}-report.html").write_text("<html>")


def left(run: Path, folder: str) -> list[str]:
    return sorted(path.name for path in (run / folder).iterdir())


def test_the_first_the_newest_and_every_failed_report_stay(tmp_path: Path) -> None:
    """Both files of a report go together; a second one of the same second is newer than the first."""
    for night in ("01", "02", "03", "04", "05"):
        report(tmp_path, f"202611{night}T031500Z", verified=night != "03")
    report(tmp_path, "20261105T031500Z-2")
    (tmp_path / "reports" / "notes.txt").write_text("mine")
    deleted = keep_newest(tmp_path, 2)
    assert {path.name[:8] for path in deleted} == {"20261102", "20261104"}
    kept = {name[:-12] for name in left(tmp_path, "reports") if name.endswith(".json")}
    assert kept == {"20261101T031500Z", "20261103T031500Z", "20261105T031500Z", "20261105T031500Z-2"}
    assert "notes.txt" in left(tmp_path, "reports")
    assert 4 * 2 + 1 == len(left(tmp_path, "reports"))


def test_of_each_step_the_first_and_the_newest_notebooks_stay(tmp_path: Path) -> None:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in (
        "06_verify_encryption",
        *(f"06_verify_encryption.attempt-{n}" for n in range(2, 12)),
        "05_create_cluster",
    ):
        (folder / f"{name}.ipynb").write_text("{}")
    keep_newest(tmp_path, 2)
    assert left(tmp_path, "notebooks") == [
        "05_create_cluster.ipynb", "06_verify_encryption.attempt-10.ipynb", "06_verify_encryption.attempt-11.ipynb",
        "06_verify_encryption.ipynb",
    ]  # fmt: skip


def test_nothing_goes_while_there_is_no_more_than_that(tmp_path: Path) -> None:
    report(tmp_path, "20261101T031500Z")
    report(tmp_path, "20261102T031500Z")
    assert [] == keep_newest(tmp_path, 1)
    assert [] == keep_newest(tmp_path / "none", 1)
