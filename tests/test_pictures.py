"""Pictures: what they say in words, and that they survive wherever a page is opened."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from PIL import Image

from runbook_lib.pages.drawing import Canvas, _font
from runbook_lib.pages.pictures import key_state, standing, timeline, who_holds_which_key
from runbook_lib.run.run import Run
from runbook_lib.run.steps import all_steps

STARTED = {"started": "2026-11-25T10:00:00+00:00", "finished": "2026-11-25T10:01:30+00:00", "status": "finished"}
OPEN = {"started": "2026-11-25T10:05:00+00:00", "status": "started"}


def run_with(*finished):
    """Return a run in which these steps have finished."""
    return Run("demo", {"run_id": "demo", "steps": {name: dict(STARTED) for name in finished}})


@pytest.mark.parametrize(
    ("finished", "state", "following"),
    [
        ((), "No key yet", "next is 00_start"),
        (("00_start",), "No key yet", "next is 01_create_key"),
        (("00_start", "01_create_key"), "PendingImport", "next is 02_get_parameters_for_import"),
        (("00_start", "01_create_key", "02_get_parameters_for_import", "03_encrypt_key_material",
          "04_import_key_material"), "Enabled", "next is 05_create_cluster"),
        (("00_start", "01_create_key", "04_import_key_material", "90_clean_up"), "PendingDeletion", "nothing is left"),
    ],
)  # fmt: skip
def test_a_picture_of_the_run_says_the_key_state_what_is_done_and_what_is_next(finished, state, following):
    """The words under the picture are the picture: for logs, for people who do not see it, for nbval."""
    picture = standing(run_with(*finished))
    assert state == key_state(run_with(*finished))
    assert f"The key: {state}." in repr(picture)
    assert following in repr(picture)
    assert all(name[:2] in repr(picture).split("The run:")[1] for name in finished)


def test_different_standings_are_different_pictures():
    """The picture is drawn from the run, not kept."""
    assert standing(run_with("00_start")).png != standing(run_with("00_start", "01_create_key")).png
    assert standing(run_with("00_start")).png == standing(run_with("00_start")).png


def test_the_timeline_names_each_step_with_how_long_it_took():
    """A step that has not finished reaches to the present."""
    picture = timeline({"00_start": STARTED, "01_create_key": OPEN}, until=datetime(2026, 11, 25, 10, 6, 5, tzinfo=UTC))
    assert "Timeline of the run: 00_start 1 min 30 s, 01_create_key 1 min 5 s." == repr(picture)


@pytest.mark.parametrize("picture", [who_holds_which_key(), standing(run_with("00_start"))], ids=["keys", "run"])
def test_a_picture_is_a_png_with_words_and_nothing_that_is_stripped_when_untrusted(picture):
    """PNG and plain text only; small, twice as fine as it is shown, on a light card so that dark themes do not hurt."""
    data, metadata = picture._repr_mimebundle_()
    assert {"image/png", "text/plain"} == set(data)
    assert {"width": 900, "alt": picture.text} == metadata["image/png"]
    image = Image.open(io.BytesIO(picture.png)).convert("RGBA")
    assert 1800 == image.width
    assert (255, 255, 255, 255) == image.getpixel((30, 30))
    assert len(picture.png) < 60_000
    assert picture.data_uri.startswith("data:image/png;base64,")


def test_no_step_name_is_cut(monkeypatch):
    """Each word of each step is in the picture of the run, and each line is inside its card."""
    written, cards = [], []
    monkeypatch.setattr(
        Canvas, "text", lambda self, x, y, words, **how: written.append((x, y, words, how.get("size", 13)))
    )
    monkeypatch.setattr(Canvas, "box", lambda self, x, y, width, height, **how: cards.append((x, y, width, height)))
    standing(run_with("00_start"))
    words = " ".join(text for _, _, text, _ in written)
    assert [step.words for step in all_steps().values() if not set(step.words.split()) <= set(words.split())] == []
    assert "…" not in words
    lines = [(x, y, text, _font(size).getlength(text) / 2) for x, y, text, size in written if size == 11.5]

    def inside(x, y, width):
        return any(cx < x and x + width < cx + cw - 4 and cy < y < cy + ch - 4 for cx, cy, cw, ch in cards[1:])

    assert [text for x, y, text, width in lines if not inside(x, y, width)] == []
    assert len(lines) >= len(all_steps())
