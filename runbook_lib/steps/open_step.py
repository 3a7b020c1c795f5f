"""What a step's notebook works with: the run folder, AWS clients, the lock while something changes, the form, the tags."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

from runbook_lib.aws.session import Session, session_for
from runbook_lib.errors import PlanOutdated
from runbook_lib.inputs.base import Inputs
from runbook_lib.pages.form import Form
from runbook_lib.plan import Change, Plan, Scope
from runbook_lib.run.run import Run
from runbook_lib.run.steps import START, STEP_INPUTS, all_steps
from runbook_lib.steps import choices


class OpenStep:
    """One step of one run, opened by its notebook."""

    def __init__(self, name: str, run: Run, session: Session | None = None, form: Form | None = None) -> None:
        self.name = name
        self.run = run
        self._session = session
        self._form = form

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
        """Return what earlier sessions did in this step, one line each."""
        section = self.run.steps.get(self.name)
        if section is None:
            return []
        if section["status"] != "finished":
            return [f"Started {section['started']} and not finished: the plan keeps what exists, and apply resumes."]
        summary = section["record"].get("summary", "")
        done = f"Finished {section['finished']}{f': {summary}' if summary else ''}."
        return [f"{done} Running the step again keeps what exists."]

    # AWS --------------------------------------------------------------------------------------------------

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
        """Return the current time by AWS's clock, in UTC."""
        return self.session.now()

    # Which run a resource belongs to ------------------------------------------------------------------------------------

    def tags(self, given: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the tags of everything that this step creates: the run's two, and those in `given`."""
        return {"runbook:run-id": self.run.run_id, "runbook:step": self.name, **(given or {})}

    def tag_list(self, given: Mapping[str, str] | None = None) -> list[dict[str, str]]:
        """Return the tags in the form of the RDS and EC2 APIs."""
        return [{"Key": key, "Value": value} for key, value in self.tags(given).items()]

    def is_ours(self, tags: Mapping[str, str]) -> bool:
        """Return whether a resource with these tags was created by this run.

        The tags name the run's id and a step that recorded an intent in this run folder. A run of the same name in
        another folder, such as a colleague's, is another run.
        """
        section = self.run.steps.get(tags.get("runbook:step", ""), {})
        intended = any(intent.get("outcome") != "refused" for intent in section.get("intents", {}).values())
        return tags.get("runbook:run-id") == self.run.run_id and bool(intended or section.get("record"))

    def whose(self, tags: Mapping[str, str]) -> str:
        """Return, as a clause, which run created a resource that is not this run's, by its tags."""
        owner = tags.get("runbook:run-id")
        if owner == self.run.run_id:
            return (
                f"a run of the same name, {owner!r}, created it, but not the run in this folder (restore the folder of that "
                "run, or choose another run_id)"
            )
        return f"run {owner!r} created it" if owner else "this run did not create it"

    # Form, plan, apply ----------------------------------------------------------------------------------------

    def form(self, given: Mapping[str, Any]) -> Form:
        """Return the form of this step; a notebook passes `locals()`, which holds its parameters.

        `apply` refuses a plan once the form that it was made from is edited.
        """
        offers = choices.for_step(self.name, lambda: self.session)
        self._form = Form(STEP_INPUTS[self.name], given=given, earlier=self.earlier(), offers=offers)
        return self._form

    def earlier(self) -> dict[str, tuple[Any, str]]:
        """Return each value that this step was last applied with, or that step 00 checked, with its source.

        A form that is opened again starts from them.
        """
        found: dict[str, tuple[Any, str]] = {}
        if not STEP_INPUTS[self.name].remembered:
            return found
        for name, words in ((START, "As checked by step 00"), (self.name, "As applied before")):
            section = self.run.steps.get(name, {})
            found.update({field: (value, words) for field, value in section.get("inputs", {}).items()})
        return found

    def plan(self, inputs: Inputs, changes: Iterable[Change]) -> Plan:
        """Return the plan of this step with the inputs it was made from, bound to this run, target, account and Region."""
        cost = all_steps()[self.name].cost
        return Plan(self.name, tuple(changes), inputs, inputs.edits, self._scope(), cost, self._done_so_far())

    def _scope(self) -> Scope:
        target = self.run.target
        return Scope(str(self.run.path), target["target"], target["account_id"], target["region"])

    def _done_so_far(self) -> dict[str, str]:
        """Return a fingerprint of what each step of the run has done so far."""
        steps = self.run.steps.items()
        return {name: sha256(json.dumps(section, sort_keys=True).encode()).hexdigest() for name, section in steps}

    @contextmanager
    def applying(self, plan: Plan, *, begin: bool = True) -> Iterator[None]:
        """Hold the run's lock and record the inputs while `plan` is applied.

        Raises, before anything is changed, `PlanRefused`; `PlanOutdated` for a plan of another run, or when the form
        was edited or any step changed since the plan was made (in another tab, for example); and `RunLocked` when
        another process works on the run. The same plan may be applied again: its own changes do not outdate it.

        `begin=False` keeps a finished step finished, with its recorded inputs.
        """
        self._require_current(plan)
        with self.run.locked(what=self.name):
            now = self._done_so_far()
            if changed := sorted(name for name in {*now, *plan.made_for} if now.get(name) != plan.made_for.get(name)):
                raise PlanOutdated(
                    f"nothing was changed: {' and '.join(changed)} changed since this plan was shown; run the plan cell again"
                )
            if begin:
                self.run.begin(self.name, inputs=plan.values)
            try:
                yield
            finally:
                plan.made_for.update(self._done_so_far())

    def _require_current(self, plan: Plan) -> None:
        """Raise `PlanOutdated` for a plan of another run or another form, and `PlanRefused`."""
        if plan.scope != self._scope():
            raise PlanOutdated(
                f"nothing was changed: this plan was made for another run, account or Region than run {self.run.run_id!r}; "
                "run the plan cell again"
            )
        if self._form is not None and (changed := self._form.differs_from(plan.inputs)):
            raise PlanOutdated(
                f"nothing was changed: the form was edited after this plan was shown ({', '.join(changed)}); run the cells "
                "again from the one that reads the form"
            )
        plan.require_applicable()


def open_step(name: str, *, run_id: str, runs_dir: Path | str | None = None) -> OpenStep:
    """Open step `name` of run `run_id`.

    Raises `RunNotFound` when 00 has not created the run, and `StepMissing` when 00 has not finished.
    """
    run = Run.open(run_id, runs_dir=Path(runs_dir) if runs_dir else None)
    run.require_finished(START)
    return OpenStep(name, run)
