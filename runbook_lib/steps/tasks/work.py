"""`task`: the task of a step, in the learner's practice account; hints, and the check of what the learner did there.

Nothing here touches the run's key or cluster, or AWS. What a learner used and reached is kept in learning.json.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from runbook_lib.attended import is_attended, while_connected
from runbook_lib.aws.answers import error_text
from runbook_lib.checks import Checks
from runbook_lib.errors import RunbookError, TaskNotPrepared
from runbook_lib.files import utc_stamp
from runbook_lib.run import learning
from runbook_lib.run.steps import (
    CLEAN_UP,
    CREATE_CLUSTER,
    CREATE_KEY,
    CUT_OVER,
    ENCRYPT_EXISTING_CLUSTER,
    ENCRYPT_KEY_MATERIAL,
    GET_PARAMETERS_FOR_IMPORT,
    IMPORT_KEY_MATERIAL,
    RECOVERY_DRILL,
    ROTATE_KEY_MATERIAL,
    START,
    VERIFY_ENCRYPTION,
    WATCH_KEY,
)
from runbook_lib.steps.exercises import practice_session
from runbook_lib.steps.open_step import OpenStep
from runbook_lib.steps.tasks import care, clusters, keys
from runbook_lib.steps.tasks.practice import Practice
from runbook_lib.tables import Text

TASKS = {
    START: care.NAME_IS_FREE,
    CREATE_KEY: keys.ONLY_THROUGH_RDS,
    GET_PARAMETERS_FOR_IMPORT: keys.PAIR_FOR_THE_ALIAS,
    ENCRYPT_KEY_MATERIAL: keys.RIGHT_DELIVERY,
    IMPORT_KEY_MATERIAL: keys.EXPIRES_IN_30_DAYS,
    CREATE_CLUSTER: clusters.CLUSTER_UNDER_THE_KEY,
    VERIFY_ENCRYPTION: clusters.CONTRACTOR_IS_OUT,
    ENCRYPT_EXISTING_CLUSTER: clusters.STORAGE_IS_PROVED,
    CUT_OVER: clusters.NAMES_EXCHANGED,
    ROTATE_KEY_MATERIAL: keys.ROTATED,
    WATCH_KEY: care.ALARM_IN_TIME,
    RECOVERY_DRILL: clusters.LIGHT_AGAIN,
    CLEAN_UP: care.ONE_KEY_GOES,
}


def task(step: OpenStep, *, enabled: bool = True) -> Work:
    """Return the task of this step, prepared in the practice account on first use.

    Unattended it is only described: nothing is prepared, and nothing waits. The same with `enabled` false or target aws.
    """
    return Work(step, enabled=enabled)


class Work:
    """A task that a learner works on: `client`, `import_material`, `check_value`, `hint`, `check` and `restart`."""

    def __init__(self, step: OpenStep, *, enabled: bool) -> None:
        self._step, self._task = step, TASKS[step.name]
        self._off = _why_off(step, enabled=enabled)
        self._practice: Practice | None = None
        if not self._off and "scene" not in self._known:
            self._prepare()

    @property
    def _known(self) -> dict[str, Any]:
        return learning.tasks(self._step.run).get(self._step.name, {})

    @property
    def _account(self) -> Practice:
        """The practice account. Raises `TaskNotPrepared` where no task can be worked on."""
        if self._off:
            raise TaskNotPrepared(f"{self._task.title}: {self._off}")
        if self._practice is None:
            self._practice = Practice(practice_session(self._step), self._step.run.path / "practice")
        return self._practice

    def _prepare(self) -> None:
        print("Preparing the practice account; this may wait for a cluster.")
        scene = self._task.prepare(self._account)
        learning.note_task(self._step.run, self._step.name, scene=scene, began=utc_stamp())

    # What a learner works with ----------------------------------------------------------------------------------------

    def client(self, service: str) -> Any:
        """Return the boto3 client of `service` in the practice account."""
        return self._account.client(service)

    def now(self) -> datetime:
        """Return the current time by the sandbox's clock, in UTC."""
        return self._account.session.now()

    def import_material(self, key_id: str, *, backup: str = "", **request: Any) -> dict[str, Any]:
        """Wrap the key material of a backup, or new material without one, and import it with the parameters of `request`."""
        return self._account.import_material(key_id, backup, **request)

    def check_value(self, backup: str) -> str:
        """Return the key check value of a backup of this task."""
        return self._account.check_value(backup)

    def restart(self) -> Work:
        """Prepare the task again with new resources; hints and looks keep their count."""
        self._prepare()
        return self

    # Help and judgement -----------------------------------------------------------------------------------------------

    def hint(self) -> Text:
        """Show the next hint, with those before it. The number that was used is kept in the run."""
        if self._off:
            return Text(self._task.title, self._off)
        number = min(int(self._known.get("hints", 0)) + 1, len(self._task.hints))
        learning.note_task(self._step.run, self._step.name, hints=number)
        return Text(self._task.title, self._hints(number))

    def _hints(self, number: int) -> str:
        shown = [f"Hint {n} of 3: {hint}" for n, hint in enumerate(self._task.hints[:number], 1)]
        return self._named("\n\n".join(shown))

    def check(self) -> Verdict | Text:
        """Compare the practice account with what the task asks for; nothing is raised while something is missing."""
        if self._off:
            return Text(self._task.title, self._off)
        known = self._known
        checks = Checks(self._task.title)
        try:
            self._task.check(self._account, known["scene"], checks)
        except (ClientError, RunbookError) as error:
            reason = error_text(error) if isinstance(error, ClientError) else str(error)
            checks.equal("the account answers every question of the check", "it does", reason, source="the call named")
        values: dict[str, Any] = {"looks": int(known.get("looks", 0)) + 1}
        if checks.passed and not known.get("done"):
            values["done"] = utc_stamp()
        return Verdict(checks, learning.note_task(self._step.run, self._step.name, **values))

    # How it is shown ---------------------------------------------------------------------------------------------------

    def _named(self, text: str) -> str:
        """Return a text with the names of this learner's resources."""
        return text.replace("{n}", str(self._known.get("scene", {}).get("n", "")))

    @property
    def _text(self) -> str:
        told = self._off or _HOW
        hints = self._hints(int(self._known.get("hints", 0)))
        return "\n\n".join([self._named(self._task.ask), *([hints] if hints else []), told])

    def __repr__(self) -> str:
        return repr(Text(self._task.title, self._text))

    def _repr_html_(self) -> str:
        return Text(self._task.title, self._text)._repr_html_()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        shown = {"text/plain": repr(self), "text/html": self._repr_html_()}
        return shown if self._off else {**_with_button(self)._repr_mimebundle_(), **shown}


_HOW = (
    'Work in a cell below: work.client("kms"), work.client("rds") and so on call AWS in your practice account. work.hint() '
    "shows the next of three hints, work.check() looks at the account, and work.restart() prepares the task again."
)


class Verdict(Text):
    """What a check of the account found: the claims, and what the task has cost so far."""

    def __init__(self, checks: Checks, known: dict[str, Any]) -> None:
        spent = f"hints used: {known['hints']} of 3, looks: {known['looks']}"
        missing = [one.claim for one in checks.rows if not one.passed]
        more = f", and {len(missing) - 1} more, below" if missing[1:] else ""
        super().__init__(checks.about, f"Not yet: {missing[0]}{more} ({spent})." if missing else f"Done ({spent}).")
        self.checks = checks

    def __repr__(self) -> str:
        return f"{super().__repr__()}\n\n{self.checks!r}"

    def _repr_html_(self) -> str:
        return super()._repr_html_() + self.checks._repr_html_()


def _why_off(step: OpenStep, *, enabled: bool) -> str:
    """Return why nothing is prepared; "" if it is."""
    if not enabled:
        return "Exercises are off (exercises: false)."
    if step.run.target["target"] != "sandbox":
        return "Nothing was prepared: tasks are done in the sandbox only, and this run's target is aws."
    return "" if is_attended() else "Nothing was prepared: nobody is at the keyboard. In JupyterLab, this is your task."


def _with_button(work: Work) -> Any:
    """Return the task with a button that shows the next hint; it makes no AWS call."""
    import ipywidgets

    shown = ipywidgets.HTML(work._repr_html_())
    button = ipywidgets.Button(description="Show a hint")
    told = ipywidgets.HTML(while_connected(["Each hint says more than the one before; how many you used is kept."]))

    def more(_: Any) -> None:
        work.hint()
        shown.value = work._repr_html_()

    button.on_click(more)
    return ipywidgets.VBox([shown, button, told])
