"""What a step's notebook works with: the run folder, AWS clients, the lock while something changes, the form, the tags."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

from runbook_lib.attended import is_attended
from runbook_lib.aws.session import Session, session_for
from runbook_lib.errors import PlanOutdated
from runbook_lib.inputs.base import Inputs
from runbook_lib.pages import cells
from runbook_lib.pages.form import Form, Known
from runbook_lib.plan import Change, Plan, Scope
from runbook_lib.run import drafts
from runbook_lib.run.current import followed
from runbook_lib.run.run import Run
from runbook_lib.run.steps import CREATE_KEY, START, STEP_INPUTS, all_steps
from runbook_lib.steps import choices
from runbook_lib.texts import visible

RUN_ID_TAG, STEP_TAG, MARK_TAG = "runbook:run-id", "runbook:step", "runbook:run"


class OpenStep:
    """One step of one run, opened by its notebook."""

    def __init__(
        self,
        name: str,
        run: Run,
        session: Session | None = None,
        form: Form | None = None,
        *,
        asked_run_id: str = "",
        notes: Sequence[str] = (),
    ) -> None:
        self.name = name
        self._run = run
        self._session = session
        self._form = form
        self._asked_run_id = asked_run_id or run.run_id
        self._notes = tuple(notes)
        self._opened = secrets.token_hex(8)

    @property
    def run(self) -> Run:
        """The run folder. Raises `PlanOutdated` after a form of this step could not be read."""
        if self._form is not None:
            self._form.require_read()
        return self._run

    def __repr__(self) -> str:
        where = f"{self.name} of run {self._run.run_id!r} · {self.target_word} · {self._place()}"
        return "\n".join(visible(line) for line in [where, *self._notes, *self._before()])

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return, for a person, the attempt that this opening begins, as metadata of the output."""
        attempt = {"runbook": {"attempt": self._opened}} if is_attended() else {}
        return {"text/plain": repr(self), "text/html": self._repr_html_()}, attempt

    def _repr_html_(self) -> str:
        colour = "color:#dc3e46;" if self.target_word == "REAL AWS" else ""
        lines = [
            f"{escape(self.name)} of run <b>{escape(self._run.run_id)}</b> · "
            f"<b style='{colour}'>{self.target_word}</b> · {escape(self._place())}",
            *(f"<b>{escape(visible(note))}</b>" for note in self._notes),
            *(escape(visible(line)) for line in self._before()),
        ]
        return f"<div style='font-size:13px;line-height:1.6'>{'<br>'.join(lines)}</div>"

    @property
    def target_word(self) -> str:
        """SANDBOX or REAL AWS."""
        return "SANDBOX" if self._run.target["target"] == "sandbox" else "REAL AWS"

    def _place(self) -> str:
        return f"account {self._run.target['account_id']} · {self._run.target['region']}"

    def _before(self) -> list[str]:
        """Return what earlier sessions did in this step, one line each."""
        section = self._run.steps.get(self.name)
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
        """Return the tags of everything that this step creates: the run's two for people, and those in `given`.

        The request is sent with a third one, see `marked`.
        """
        return {RUN_ID_TAG: self.run.run_id, STEP_TAG: self.name, **(given or {})}

    def tag_list(self, given: Mapping[str, str] | None = None) -> list[dict[str, str]]:
        """Return the tags in the form of the RDS and EC2 APIs."""
        return [{"Key": key, "Value": value} for key, value in self.tags(given).items()]

    def marked(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the request of a create with the folder's mark as tag `runbook:run`; no plan and no output holds it."""
        key, value = ("TagKey", "TagValue") if "KeyUsage" in request else ("Key", "Value")
        mark = {key: MARK_TAG, value: self.run.mark}
        if "TagSpecifications" in request:
            kinds = [{**kind, "Tags": [*kind["Tags"], mark]} for kind in request["TagSpecifications"]]
            return {**request, "TagSpecifications": kinds}
        return {**request, "Tags": [*request["Tags"], mark]}

    def whose(self, tags: Mapping[str, str]) -> str:
        """Return, as a clause, which run created a resource that is not this run's, by its tags."""
        owner = tags.get(RUN_ID_TAG)
        if owner == self.run.run_id:
            return (
                f"a run of the same name, {owner!r}, created it, but not the run in this folder (restore the folder of that "
                "run, or choose another run_id)"
            )
        return f"run {owner!r} created it" if owner else "this run did not create it"

    # Form, plan, apply ----------------------------------------------------------------------------------------

    def form(self, given: Mapping[str, Any]) -> Form:
        """Return the form of this step; a notebook passes `locals()`, which holds its parameters.

        `apply` refuses a plan once the form that it was made from is edited. Raises `PlanOutdated` if the parameters
        name another run than the one that is open.
        """
        cells.require_parameters(given)
        if (run_id := given.get("run_id", self._asked_run_id)) not in (self._asked_run_id, self._run.run_id):
            raise PlanOutdated(
                f"nothing was done: run_id is {run_id!r}, but this step was opened for {self._asked_run_id!r}; run the cell "
                "that opens the step again"
            )
        self._form, run, model = None, self._run, STEP_INPUTS[self.name]
        offers = choices.for_step(self.name, lambda: self.session)
        self._form = Form(
            model,
            given={**given, "run_id": run.run_id},
            offers=offers,
            known=lambda _: Known(earlier(run, self.name), drafts.read(run, self.name, model)),
            keep=lambda chosen: drafts.keep(run, self.name, model, chosen),
        )
        if is_attended():
            _SHOWN[self.name] = (run.path, self._form)
        return self._form

    def plan(self, inputs: Inputs, changes: Iterable[Change]) -> Plan:
        """Return the plan of this step with the inputs it was made from, bound to this run, target, account and Region.

        Raises `PlanOutdated` for inputs of another run, or that are not what the form shows.
        """
        self.require_read(inputs)
        cost = all_steps()[self.name].cost
        return Plan(self.name, tuple(changes), inputs, inputs.edits, self._scope(), cost, self._done_so_far())

    def require_read(self, inputs: Inputs) -> None:
        """Raise `PlanOutdated` unless `inputs` are what the form shows, for the run, target, account and Region of this step."""
        if self._form is not None:
            self._form.require_read(inputs)
        fixed = {"run_id": self._run.run_id, **self._run.target}
        for name in ("run_id", "target", "account_id", "region"):
            if name in inputs.model_fields_set and (asked := getattr(inputs, name, "")) not in ("", fixed[name]):
                raise PlanOutdated(
                    f"nothing was done: {name} is {asked!r}, but this step is open for {fixed[name]!r}; run the cell that "
                    "opens the step again"
                )

    def _scope(self) -> Scope:
        target = self.run.target
        return Scope(str(self.run.path), target["target"], target["account_id"], target["region"])

    def _done_so_far(self) -> dict[str, str]:
        """Return a fingerprint of what each step of the run has done so far."""
        steps = self.run.steps.items()
        return {name: sha256(json.dumps(section, sort_keys=True).encode()).hexdigest() for name, section in steps}

    @contextmanager
    def applying(self, plan: Plan, *, begin: bool = True) -> Iterator[None]:
        """Hold the run's lock and record the inputs while `plan` is applied; at the end, remove the draft of its form.

        Raises, before anything is changed, `PlanRefused`; `PlanNotConfirmed`; `PlanOutdated` for a plan of another run, or
        when the form was edited or any step changed since the plan was made (in another tab, for example); and `RunLocked` when
        another process works on the run. The same plan may be applied again: its own changes do not outdate it.

        `begin=False` keeps a finished step finished, with its recorded inputs.
        """
        self.require_current(plan)
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
                if begin:
                    self.run.applied(self.name)
                    drafts.remove(self.run, self.name)
            finally:
                plan.made_for.update(self._done_so_far())

    def require_current(self, plan: Plan) -> None:
        """Raise `PlanOutdated` for a plan of another run or another form, `PlanRefused`, and `PlanNotConfirmed`."""
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
        if plan.inputs is not None:
            self.require_read(plan.inputs)
        plan.require_applicable()
        plan.require_confirmed()


def earlier(run: Run, name: str) -> dict[str, tuple[Any, str]]:
    """Return each value that an earlier step asked for, or that step `name` was applied with, with its source.

    A form that is opened again starts from them. What an apply left unfinished does not count.
    """
    found: dict[str, tuple[Any, str]] = {}
    if not STEP_INPUTS[name].remembered:
        return found
    for step, words in (
        (START, "As checked by step 00"),
        (CREATE_KEY, "As asked by step 01"),
        (name, "As applied before"),
    ):
        shared = STEP_INPUTS[step].model_fields if step in (START, name) else ("tags",)
        values = run.applied_inputs(step) if step <= name else {}
        taken = [
            field for field in shared if field in values and (step == name or STEP_INPUTS[name].takes(field, values))
        ]
        found.update({field: (values[field], words) for field in taken})
    return found


# The form of each step that this kernel shows, with the run folder that it belongs to.
_SHOWN: dict[str, tuple[Path, Form]] = {}


def open_step(name: str, *, run_id: str, runs_dir: Path | str | None = None) -> OpenStep:
    """Open step `name` of run `run_id`, or, in a kernel of `runbook lab`, of its current run.

    The current run is taken if `run_id` is as shipped, and the step says so. Raises `RunNotFound` when 00 has not created
    the run, and `StepMissing` when 00 has not finished.
    """
    cells.install()
    chosen = followed(run_id)
    run = Run.open(chosen, runs_dir=Path(runs_dir) if runs_dir else None)
    run.require_finished(START)
    before, form = _SHOWN.get(name, (run.path, None))
    notes = (
        []
        if chosen == run_id
        else [f"Run {chosen!r} is the current run, chosen in 00; the parameters cell has {run_id!r}."]
    )
    if before != run.path:
        notes.append(f"ANOTHER RUN THAN BEFORE: this page worked on {before.name!r} until now.")
        form = None
    return OpenStep(name, run, form=form, asked_run_id=run_id, notes=notes)
