"""Wrapping keys generated in advance go to one caller each, and are replaced."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from runbook_sandbox.kms import wrapping_keys


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(wrapping_keys, "_spares", {})
    monkeypatch.setattr(wrapping_keys, "_keeping", False)
    yield
    for spare in wrapping_keys._spares.values():
        spare.result()


def test_each_caller_gets_a_different_key() -> None:
    """Six concurrent callers and the spare have seven different moduli."""
    wrapping_keys.keep_spare("RSA_2048")
    with ThreadPoolExecutor(6) as threads:
        taken = list(threads.map(wrapping_keys.take, ["RSA_2048"] * 6))
    taken.append(wrapping_keys._spares["RSA_2048"].result())
    assert len({key.public_key().public_numbers().n for key in taken}) == 7
    assert {key.key_size for key in taken} == {2048}


def test_the_spare_is_what_the_next_caller_gets() -> None:
    """The spare is returned, not generated again."""
    wrapping_keys.keep_spare("RSA_2048")
    spare = wrapping_keys._spares["RSA_2048"].result()
    assert wrapping_keys.take("RSA_2048") is spare


def test_nothing_is_generated_in_advance_by_default() -> None:
    """Without keep_spare nothing is generated in advance."""
    wrapping_keys.take("RSA_2048")
    assert wrapping_keys._spares == {}


def test_a_failure_is_raised_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure in the background is raised to the caller that waits."""

    def fail(spec: str) -> None:
        raise MemoryError(spec)

    monkeypatch.setattr(wrapping_keys, "_generate", fail)
    wrapping_keys.keep_spare("RSA_2048")
    with pytest.raises(MemoryError, match="RSA_2048"):
        wrapping_keys._spares.pop("RSA_2048").result(10)
