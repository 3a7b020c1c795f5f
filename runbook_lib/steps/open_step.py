"""A notebook's hold on its run: the run folder, the target's clients, the lock while something changes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

from runbook_lib.aws.session import Session, session_for
from runbook_lib.errors import PlanOutdated
from runbook_lib.inputs.base import Inputs
from runbook_lib.plan import Plan
from runbook_lib.run.run import Run
from runbook_lib.run.steps import all_steps


class OpenStep:
    """One step of one run, opened by its notebook."""

    def __init__(self, name: str, run: Run, session: Session | None = None) -> None:
        self.name = name
        self.run = run
        self._session = session

    def __repr__(self) -> str:
        where = f"{self.name} of run {self.run.run_id!r} · {self.target_word} · {self._place()}"
        return "\n".join([where, *self._before()])

    def _repr_html_(self) -> str:
        colour = "color:#dc3e46;" if self.target_word == "REAL AWS" else ""
        lines = [
            f"{escape(self.name)} of run <b>{escape(self.run.run_id)}</b> · "
            f"<b style='{colour}'>{self.target_word}</b> · {escape(self._place())}",
            *(escape(line) for line in self._before()),
        ]
        return f"<div style='font-size:13px;line-height:1.6'>{'<br>'.join(lines)}</div>"

    @property
    def target_word(self) -> str:
        """SANDBOX or REAL AWS."""
        return "SANDBOX" if self.run.target["target"] == "sandbox" else "REAL AWS"

    def _place(self) -> str:
        return f"account {self.run.target['account_id']} · {self.run.target['region']}"

    def _before(self) -> list[str]:
        """Say what was done already, for whoever comes back tomorrow."""
        section = self.run.steps.get(self.name)
        if section is None:
            return []
        if section["status"] != "finished":
            return [f"Begun {section['started']} and not finished: the plan keeps what is there and goes on."]
        summary = section["record"].get("summary", "")
        done = f"Done already, {section['finished']}{f': {summary}' if summary else ''}."
        return [f"{done} Running it again keeps what is there."]

    @property
    def session(self) -> Session:
        """Clients for the run's target; account, Region and endpoint are checked when it is first used."""
        if self._session is None:
            self._session = session_for(self.run.target, runs_dir=self.run.path.parent)
        return self._session

    def client(self, service: str, *, region: str = "", retry: bool = True) -> Any:
        """Return the client of `service`; see `Session.client`."""
        return self.session.client(service, region=region, retry=retry)

    def now(self) -> datetime:
        """Return AWS's present time."""
        return self.session.now()

    def made(self, step: str = "") -> dict[str, Any]:
        """Return what `step` (default: this one) has recorded so far, finished or not."""
        return self.run.made(step or self.name)

    def tags(self, given: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the tags of everything that this step makes: the run's two, and the caller's own."""
        return {"runbook:run-id": self.run.run_id, "runbook:step": self.name, **(given or {})}

    def tag_list(self, given: Mapping[str, str] | None = None) -> list[dict[str, str]]:
        """Return the tags as RDS and EC2 take them."""
        return [{"Key": key, "Value": value} for key, value in self.tags(given).items()]

    def is_ours(self, tags: Mapping[str, str]) -> bool:
        """Say whether a resource with these tags was made by this run.

        It carries the run's id, and the step that it names has announced a create in this very folder: a run of the
        same name in another folder, a colleague's say, is another run.
        """
        section = self.run.steps.get(tags.get("runbook:step", ""), {})
        announced = any(intent.get("outcome") != "refused" for intent in section.get("intents", {}).values())
        return tags.get("runbook:run-id") == self.run.run_id and bool(announced or section.get("record"))

    def whose(self, tags: Mapping[str, str]) -> str:
        """Say of a resource that is not ours whose it is, as far as its tags tell."""
        owner = tags.get("runbook:run-id")
        if owner == self.run.run_id:
            return (
                f"a run {owner!r} made it of which this folder knows nothing (a colleague's, or a folder that was deleted or "
                "moved: put it back, or choose another run_id)"
            )
        return f"run {owner!r} made it" if owner else "this run did not make it"

    def plan(self, inputs: Inputs, changes: Any) -> Plan:
        """Return the plan of this step, with the inputs it was made from."""
        cost = all_steps()[self.name].cost
        edited, since, made_for = inputs.edited, inputs.changed_since, self._done_so_far()
        return Plan(self.name, tuple(changes), inputs.model_dump(), edited, since, cost, made_for)

    def _done_so_far(self) -> dict[str, str]:
        """Return a fingerprint of what each step of the run has done so far."""
        steps = self.run.steps.items()
        return {name: sha256(json.dumps(section, sort_keys=True).encode()).hexdigest() for name, section in steps}

    def earlier(self) -> dict[str, tuple[Any, str]]:
        """Return the values that this step was applied with before, else those that 00_start checked, and which it is.

        A form that a person opens again starts from them.
        """
        found = {}
        for name, words in (("00_start", "As checked by 00"), (self.name, "As applied before")):
            section = self.run.steps.get(name, {})
            found.update({field: (value, words) for field, value in section.get("inputs", {}).items()})
        return found

    @contextmanager
    def applying(self, plan: Plan) -> Iterator[None]:
        """Hold the run's lock and note the inputs while `plan` is applied.

        Raises, before anything is changed, `PlanRefused`, `PlanOutdated` when any step went on since the plan was made
        (in another tab, say), and `RunLocked` when another process works on the run. The same plan may be applied again:
        what it did itself does not make it old.
        """
        plan.require_applicable()
        with self.run.locked(what=self.name):
            now = self._done_so_far()
            if changed := sorted(name for name in {*now, *plan.made_for} if now.get(name) != plan.made_for.get(name)):
                raise PlanOutdated(
                    f"nothing was changed: {' and '.join(changed)} went on since this plan was shown; run the plan's cell again"
                )
            self.run.begin(self.name, inputs=plan.inputs)
            try:
                yield
            finally:
                plan.made_for.update(self._done_so_far())


def open_step(name: str, *, run_id: str, runs_dir: Path | str | None = None) -> OpenStep:
    """Open step `name` of run `run_id`.

    Raises `RunNotFound` when 00_start has not made the run, and `StepMissing` when it has not finished.
    """
    run = Run.open(run_id, runs_dir=Path(runs_dir) if runs_dir else None)
    run.record("00_start")
    return OpenStep(name, run)
