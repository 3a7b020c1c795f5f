"""Whatever an existing cluster looks like, it comes out the same: random sources, made through the API."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from kms_support import advance, reset
from source_clusters import Account, Source, sources


@pytest.mark.slow
def test_any_cluster_comes_out_the_same(served: str) -> None:
    """For random sources of both engines and all states of encryption, with up to fifteen readers."""

    @settings(max_examples=25 if settings.get_current_profile_name() == "sample" else 500)
    @given(sources())
    def holds(source: Source) -> None:
        reset(served)
        if source.encryption == "none":
            advance(served, days=-300)
        at = Account(served)
        made = at.make(source)
        if source.encryption == "none":
            advance(served, days=300)
        assert [] == at.restore(made)

    holds()
