"""Wrapping keys made in advance are given to one caller each, and made again."""

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


def test_nobody_gets_the_key_of_another() -> None:
    """Six callers at once, and the spare among what they get: seven moduli."""
    wrapping_keys.keep_spare("RSA_2048")
    with ThreadPoolExecutor(6) as threads:
        taken = list(threads.map(wrapping_keys.take, ["RSA_2048"] * 6))
    taken.append(wrapping_keys._spares["RSA_2048"].result())
    assert len({key.public_key().public_numbers().n for key in taken}) == 7
    assert {key.key_size for key in taken} == {2048}


def test_the_spare_is_what_the_next_caller_gets() -> None:
    """It is not made a second time."""
    wrapping_keys.keep_spare("RSA_2048")
    spare = wrapping_keys._spares["RSA_2048"].result()
    assert wrapping_keys.take("RSA_2048") is spare


def test_without_being_told_to_nothing_is_made_in_advance() -> None:
    """Tests that serve from their own process do not pay for keys that nobody asked for."""
    wrapping_keys.take("RSA_2048")
    assert wrapping_keys._spares == {}


def test_a_failure_reaches_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A background failure is not a caller that waits for ever."""

    def fail(spec: str) -> None:
        raise MemoryError(spec)

    monkeypatch.setattr(wrapping_keys, "_generate", fail)
    wrapping_keys.keep_spare("RSA_2048")
    with pytest.raises(MemoryError, match="RSA_2048"):
        wrapping_keys._spares.pop("RSA_2048").result(10)
