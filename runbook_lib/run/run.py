"""The run folder: the records and artefacts that the steps of one run share, and the lock for its one writer.

A run is a folder `runs/<run_id>` with state.json (one section per step), artefacts and the executed notebooks.
This module knows files and locks, and neither AWS nor any step. state.json holds identifiers and file names, no secret.
Its format: `state_file.py`.
"""

from __future__ import annotations

import copy
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runbook_lib.errors import (
    ArtefactMissing,
    InputError,
    RunNotFound,
    RunUnreadable,
    StepMissing,
)
from runbook_lib.files import private_folder, utc_stamp, write_whole
from runbook_lib.run.lock import run_lock
from runbook_lib.run.paths import runs_folder
from runbook_lib.run.state_file import FORMAT, RUN_ID, Intent, identity_of, read_state

STATE, LAST_GOOD = "state.json", "state.last-good.json"


class Run:
    """One run folder: its target, the records of its steps, its artefacts and its lock."""

    def __init__(self, path: Path, state: dict[str, Any]) -> None:
        self.path = path
        self._state = state

    def __repr__(self) -> str:
        finished = [name for name in self.steps if self.is_finished(name)]
        return f"Run({self.run_id!r}: {len(finished)} steps finished)"

    # Creating and opening ------------------------------------------------------------------------

    @classmethod
    def create(cls, run_id: str, *, runs_dir: Path | None = None, target: Mapping[str, str]) -> Run:
        """Create the folder (0700) of a new run that is fixed to `target`: target, account_id, region and sandbox_id.

        Raises `FileNotWritable`.
        """
        path = runs_folder(runs_dir) / run_id
        for folder in (path.parent, path, path / "notebooks"):
            private_folder(folder, parents=True)
        run = cls.unsaved(run_id, runs_dir=runs_dir, target=target)
        run._save()
        return run

    @classmethod
    def unsaved(cls, run_id: str, *, runs_dir: Path | None = None, target: Mapping[str, str]) -> Run:
        """Return a run that is on no disk yet: for looking ahead."""
        state = {"format": FORMAT, "run_id": run_id, "created": utc_stamp(), "mark": "", "folder": ""}
        state |= {"target": dict(target), "steps": {}}
        return cls(runs_folder(runs_dir) / run_id, state)

    @classmethod
    def open(cls, run_id: str, *, runs_dir: Path | None = None) -> Run:
        """Open an existing run.

        Raises `InputError` for what is not a run id, `RunNotFound` and `RunUnreadable`.
        """
        if not re.fullmatch(RUN_ID, run_id):
            rule = "letters, digits, '.', '_' or '-', beginning with a letter or digit"
            raise InputError([("run_id", f"{run_id!r} is not a valid run ID: write {rule}")])
        path = runs_folder(runs_dir) / run_id
        run = cls(path, {})
        run.reload()
        return run

    def reload(self) -> None:
        """Read state.json again."""
        file = self.path / STATE
        advice = f"run notebooks/00_start.ipynb with run_id {self.path.name!r} first"
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            if self._had_steps():
                raise RunUnreadable(f"{file} does not exist any more; {self._out_of_damage()}") from None
            raise RunNotFound(f"there is no run {self.path.name!r} in {self.path.parent}; {advice}") from None
        except UnicodeDecodeError as error:
            raise RunUnreadable(f"{file} is damaged ({error}); {self._out_of_damage()}") from None
        except OSError as error:
            raise RunNotFound(f"{file} cannot be read ({error.strerror}); fix its permissions, or {advice}") from error
        try:
            self._state = read_state(text)
        except ValueError as error:
            raise RunUnreadable(f"{file} is damaged ({error}); {self._out_of_damage()}") from None
        if self._state["format"] > FORMAT:
            raise RunUnreadable(
                f"{file} has format {self._state['format']}, this version supports {FORMAT}; update aurora-byok-runbook"
            )

    def _had_steps(self) -> bool:
        """Return whether the last good copy of a deleted state.json has steps; without steps the run had not begun."""
        try:
            return bool(read_state((self.path / LAST_GOOD).read_text(encoding="utf-8"))["steps"])
        except FileNotFoundError:
            return False
        except (OSError, ValueError):
            return True

    def _out_of_damage(self) -> str:
        copy_of = self.path / LAST_GOOD
        try:
            steps = read_state(copy_of.read_text(encoding="utf-8"))["steps"]
        except (OSError, ValueError):
            return (
                f"move the folder {self.path} away, search the account for resources tagged runbook:run-id = "
                f"{self.path.name}, and start a new run"
            )
        finished = sum(section.get("status") == "finished" for section in steps.values())
        return (
            f"the last good copy is {LAST_GOOD} ({finished} steps finished); to resume from it, run: "
            f"cp {copy_of} {self.path / STATE}"
        )

    def _save(self) -> None:
        """Write the backup copy first: after a crash it may name a request that was not sent, but it never lacks one that was."""
        self._draw_mark()
        content = (json.dumps(self._state, indent=1, ensure_ascii=False) + "\n").encode()
        write_whole(self.path / LAST_GOOD, content, durable=False)
        write_whole(self.path / STATE, content)

    def _draw_mark(self) -> None:
        """Draw the folder's mark if it has none, or if it was drawn for the folder that this one is a copy of."""
        if (here := identity_of(self.path)) not in ("", self._state["folder"]):
            self._state |= {"mark": secrets.token_hex(16), "folder": here}

    def set_aside(self) -> Path:
        """Rename the folder to the first `<run_id>-N` that does not exist; return the new path."""
        number = 1
        while (other := self.path.with_name(f"{self.path.name}-{number}")).exists():
            number += 1
        os.rename(self.path, other)
        return other

    # Reading --------------------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        return str(self._state["run_id"])

    @property
    def created(self) -> str:
        return str(self._state["created"])

    @property
    def mark(self) -> str:
        """The random id of this run folder, the tag `runbook:run` of what it creates; "" before the first write."""
        return str(self._state["mark"])

    @property
    def target(self) -> dict[str, str]:
        """The target, account, Region and sandbox that the run is fixed to."""
        return dict(self._state["target"])

    @property
    def steps(self) -> dict[str, dict[str, Any]]:
        """A copy of the section of each step that has begun, by step name."""
        return copy.deepcopy(self._state["steps"])

    def is_finished(self, step: str) -> bool:
        """Return whether `step` has finished."""
        return bool(self._state["steps"].get(step, {}).get("status") == "finished")

    def require_finished(self, step: str) -> None:
        """Raise `StepMissing`, naming the notebook to run, unless `step` has finished."""
        if not self.is_finished(step):
            raise StepMissing(f"run {self.run_id!r} has no record of {step}; run notebooks/{step}.ipynb first")

    def record(self, step: str) -> dict[str, Any]:
        """Return the record of a finished `step` as JSON data; `records` has it typed. Raises `StepMissing`."""
        self.require_finished(step)
        return self.made(step)

    def made(self, step: str) -> dict[str, Any]:
        """Return what `step` has recorded so far, finished or not; empty if it has not begun."""
        return copy.deepcopy(self._state["steps"].get(step, {}).get("record", {}))

    # Writing: one section, by its step ------------------------------------------------------------

    def _section(self, step: str) -> dict[str, Any]:
        return self._state["steps"].setdefault(  # type: ignore[no-any-return]
            step, {"status": "started", "started": utc_stamp(), "inputs": {}, "intents": {}, "record": {}}
        )

    def begin(self, step: str, *, inputs: Mapping[str, Any]) -> None:
        """Record that `step` is being applied with `inputs`; its earlier record is kept."""
        section = self._section(step)
        section.update(status="started", inputs=dict(inputs))
        section.pop("finished", None)
        self._save()

    def applied(self, step: str) -> None:
        """Record that an apply of `step` has ended without an error, with the inputs that it began with."""
        section = self._section(step)
        if section.get("applied") != section["inputs"]:
            section["applied"] = dict(section["inputs"])
            self._save()

    def applied_inputs(self, step: str) -> dict[str, Any]:
        """Return the inputs of the last apply of `step` that ended without an error; empty if none did."""
        section = self._state["steps"].get(step, {})
        finished = section.get("inputs", {}) if section.get("status") == "finished" else {}
        return copy.deepcopy(section.get("applied", finished))

    def note(self, step: str, **values: Any) -> None:
        """Add `values` to the record of `step`."""
        with self.locked(what=step):
            self._section(step)["record"].update(values)
            self._save()

    def intend(self, step: str, what: str) -> None:
        """Record the intent: the request `what` is about to be sent."""
        self._draw_mark()
        before = self.intent(step, what)
        marks = dict.fromkeys([*(before.marks if before.outcome != "refused" else ()), self.mark])
        self._section(step)["intents"][what] = {
            "at": utc_stamp(), "outcome": "unclear", "marks": list(marks), "resources": list(before.resources),
        }  # fmt: skip
        self._save()

    def settle(self, step: str, what: str, outcome: str, *, resource: str = "") -> None:
        """Record the outcome of a request whose intent was recorded, and the id of the resource that it created."""
        intent = self._section(step)["intents"][what]
        intent["outcome"] = outcome
        intent["resources"] = list(dict.fromkeys([*intent["resources"], *([resource] if resource else [])]))
        self._save()

    def intent(self, step: str, what: str) -> Intent:
        """Return the recorded intent of a request; its outcome is "" if there is none."""
        found = self._state["steps"].get(step, {}).get("intents", {}).get(what, {})
        return Intent(found.get("outcome", ""), tuple(found.get("marks", ())), tuple(found.get("resources", ())))

    def is_unclear(self, step: str, what: str) -> bool:
        """Return whether an intent for `what` is recorded and its outcome is not."""
        return self.intent(step, what).outcome == "unclear"

    def was_sent(self, step: str, what: str) -> bool:
        """Return whether an intent for `what` is recorded and AWS did not refuse the request."""
        return self.intent(step, what).outcome not in ("", "refused")

    def finish(self, step: str, **values: Any) -> None:
        """Add `values` to the record of `step` and mark it finished."""
        with self.locked(what=step):
            section = self._section(step)
            section["record"].update(values)
            section.update(status="finished", finished=utc_stamp())
            self._save()

    # Artefacts ----------------------------------------------------------------------------------------

    def write(self, name: str, content: bytes) -> Path:
        """Write the artefact `name` atomically, with mode 0600; return its path. Raises `FileNotWritable`."""
        path = self._inside(name)
        write_whole(path, content)
        return path

    def read(self, name: str) -> bytes:
        """Return the content of the artefact `name`. Raises `ArtefactMissing`, and `RunUnreadable` for a path elsewhere."""
        path = self._inside(name)
        try:
            return path.read_bytes()
        except OSError as error:
            raise ArtefactMissing(
                f"{path} cannot be read ({error.strerror}); run the step that writes it again"
            ) from error

    def _inside(self, name: str) -> Path:
        """Return the path of an artefact; a record that names a file outside of the run folder is damaged."""
        parts = Path(name).parts
        if not parts or Path(name).is_absolute() or ".." in parts or not name.isprintable():
            raise RunUnreadable(
                f"run {self.run_id!r} names the file {name!r}, which is not one of its folder; restore {self.path} from a backup"
            )
        return self.path / name

    # One writer ---------------------------------------------------------------------------------------

    @contextmanager
    def locked(self, *, what: str) -> Iterator[None]:
        """Hold the run's lock while applying or writing; state.json is read again first.

        Raises `RunLocked`, naming the holder.
        """
        with run_lock(self.path, what=what):
            self.reload()
            yield


def all_runs(runs_dir: Path | None = None) -> list[Run]:
    """Return every readable run in the runs folder, oldest first."""
    folder = runs_folder(runs_dir)
    found = []
    for state in folder.glob(f"*/{STATE}") if folder.is_dir() else ():
        try:
            found.append(Run.open(state.parent.name, runs_dir=folder))
        except (RunUnreadable, RunNotFound, InputError):
            continue
    return sorted(found, key=lambda run: (run.created, run.run_id))
