"""Inputs of the steps: one frozen model per step, with types, limits, labels and help texts.

Forms, papermill's parameters cells, parameter files and tests all read these declarations; there is no other list of
parameters. Only rules that need no AWS call are checked here. The pre-flight and the plans check the rest, such as
whether a role exists or a version is available.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
)

from runbook_lib.errors import InputError
from runbook_lib.inputs.aws_rules import check
from runbook_lib.plan import Edit


def matching(pattern: str, rule: str) -> Any:
    """Return a validator: the text is empty or matches `pattern`, else the error states `rule`."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if value and not compiled.fullmatch(value):
            raise ValueError(f"{value!r} {rule}")
        return value

    return check


RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
PATH = {"format": "path"}
PATHS = {"format": "paths"}  # of a list


def choice(label: str, explanation: str, default: Any, **limits: Any) -> Any:
    """Return a field of a model: its label and help text in forms, its default, and pydantic's limits (`ge`, `le`)."""
    return Field(default=default, title=label, description=explanation, validate_default=True, **limits)


class Inputs(BaseModel):
    """Inputs of every step: the run that it belongs to."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    # Fields that forms leave out: the notebook reads them before it shows its form.
    not_in_form: ClassVar[frozenset[str]] = frozenset({"run_id", "exercises"})

    # Whether a reopened form starts from the values that were applied last.
    remembered: ClassVar[bool] = True

    # Fields that a person types as a confirmation: no draft brings them back.
    typed_each_time: ClassVar[frozenset[str]] = frozenset()

    # Fields that name where a PIN or password is read: prompt, env:NAME or file:PATH.
    secret_sources: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def takes(cls, field: str, started_with: Mapping[str, Any]) -> bool:
        """Return whether a value that 00 was started with is meant for this step's field of the same name."""
        return True

    _edits: tuple[Edit, ...] = PrivateAttr(default=())

    run_id: str = choice("Run", "Name of the run folder that the steps share.", "demo")
    exercises: bool = choice(
        "Exercises",
        "Run the exercise at the end of the notebook, which causes an AWS error on purpose, in a separate account of the sandbox.",
        True,
        exclude=True,
    )

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The fields whose value is not the parameter's."""
        return self._edits

    def with_edits(self, edits: Iterable[Edit]) -> Self:
        """Return a copy of these inputs that carries `edits`: what differs from the parameters, and who changed it."""
        noted = self.model_copy()
        noted._edits = tuple(edits)
        return noted

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.run_id!r}, {len(type(self).model_fields) - 1} choices)"

    @field_validator("run_id")
    @classmethod
    def _run_id(cls, value: str) -> str:
        if not RUN_ID.fullmatch(value):
            raise ValueError(
                f"{value!r} is not a valid run ID: write 1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or digit"
            )
        return value

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """Take this step's fields from `given`, ignoring other names, and check them.

        Raises `InputError` with one line per wrong field.
        """
        return cls.check({name: given[name] for name in cls.model_fields if name in given})

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> Self:
        """Build the model from `values`; raise `InputError` with one line per wrong field."""
        try:
            return cls(**values)
        except ValidationError as error:
            raise InputError([_problem(problem) for problem in error.errors()]) from None


def _problem(problem: Any) -> tuple[str, str]:
    """Return one pydantic problem as field and message; the message names the value and what to write instead."""
    field = ".".join(str(part) for part in problem["loc"])
    value, kind, context = problem["input"], problem["type"], problem.get("ctx", {})
    if kind == "value_error" and not field:  # two fields that do not go together: the message names one
        field, _, message = str(context["error"]).partition(": ")
        return field, message
    if kind == "value_error":
        return field, str(context["error"])
    if field == "account_id":
        return (
            field,
            f"{value!r} is not text; write 12 digits in quotes, because a number loses its leading zeros (papermill: -r account_id "
            f"{str(value)[:12]} in place of -p)",
        )
    if kind == "literal_error":
        return (
            field,
            f"{value!r} is not one of {context['expected']}{nearest(str(value), context['expected'])}",
        )
    if kind.endswith("_type"):
        wanted = {
            "string_type": "text in quotes",
            "int_type": "a whole number",
            "bool_type": "true or false",
            "list_type": "a list",
            "dict_type": "a mapping",
            "float_type": "a number",
        }.get(kind, kind.removesuffix("_type"))
        return field, f"{value!r} ({type(value).__name__}) is not {wanted}"
    return field, f"{value!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def nearest(value: str, expected: str) -> str:
    """Return `; did you mean 'x'?` for the closest of the quoted names in `expected`, or an empty text."""
    near = difflib.get_close_matches(value, re.findall(r"'([^']*)'", expected), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def check_tags(values: dict[str, str]) -> dict[str, str]:
    """Return `values`, checked as tags of AWS resources; raise ValueError for one that AWS or the runbook rejects.

    AWS allows 50 tags per resource (RDS user guide, USER_Tagging); 10 are reserved for the run's own.
    """
    if len(values) > 40:
        raise ValueError(
            f"{len(values)} tags exceed the limit of 40: AWS allows 50, and 10 are reserved for the run; remove some"
        )
    for key, value in values.items():
        if key.lower().startswith("runbook:"):
            raise ValueError(
                f"tag {key!r} is not a valid key: runbook: is the run's own; not beginning with aws: or runbook:"
            )
        try:
            check("tag_key", key)
            check("tag_value", value)
        except ValueError as error:
            raise ValueError(f"tag {key!r}: {error}") from None
    return values
