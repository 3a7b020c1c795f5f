"""Read parameters from a YAML file and the command line, and check them for all steps at once."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from runbook_lib.errors import InputError, ParameterFileInvalid
from runbook_lib.inputs.base import PATH, PATHS
from runbook_lib.run.paths import parameters_folder
from runbook_lib.run.steps import STEP_INPUTS


class _DuplicateKey(yaml.constructor.ConstructorError):
    """A mapping has a duplicate key."""


class _Alias(yaml.composer.ComposerError):
    """The text has an alias (*name)."""


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also rejects duplicate keys and aliases.

    YAML itself keeps the last of two keys. Aliases of aliases make a small file grow without bound, and a flat mapping
    needs none.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise _Alias(None, None, f"*{event.anchor}", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise _DuplicateKey(None, None, key.value, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


# A date without quotes stays the text that it is in the file: every value goes to a notebook as JSON.
_Loader.add_constructor("tag:yaml.org,2002:timestamp", yaml.SafeLoader.construct_yaml_str)  # type: ignore[type-var]


def known_parameters() -> set[str]:
    """Return the names of the parameters of all steps."""
    return {name for model in STEP_INPUTS.values() for name in model.model_fields}


def check_parameters(given: Mapping[str, Any]) -> None:
    """Check a flat mapping of parameters for all steps, before any AWS call.

    Raises `InputError`, which lists every unknown name with the closest known one or, if all names are known, every
    invalid value.
    """
    names = known_parameters()
    unknown = []
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1)
            unknown.append((str(name), "is not a parameter" + (f"; did you mean {near[0]}?" if near else "")))
    if unknown:
        raise InputError(unknown)
    problems: dict[tuple[str, str], None] = {}
    for model in STEP_INPUTS.values():
        try:
            model.read(given)
        except InputError as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise InputError(list(problems))


def read_parameters(path: Path) -> dict[str, Any]:
    """Read a parameter file: one flat YAML mapping of names to values.

    Raises `ParameterFileInvalid`; the values themselves are checked by `check_parameters`.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a safe loader
    except FileNotFoundError:
        raise ParameterFileInvalid(f"parameter file {path} does not exist; see parameters/ for examples") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterFileInvalid(f"{path} cannot be read ({error}); give a YAML file in UTF-8") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        if isinstance(error, _DuplicateKey):
            raise ParameterFileInvalid(f"{path} sets {error.problem} twice{line}; remove one") from None
        if isinstance(error, _Alias):
            raise ParameterFileInvalid(f"{path} has the alias {error.problem}{line}; write its value instead") from None
        raise ParameterFileInvalid(f"{path} is not valid YAML{line}; write one 'name: value' per line") from None
    except (ValueError, RecursionError) as error:  # an invalid number or date, or too deep nesting
        raise ParameterFileInvalid(f"{path} is not valid YAML ({error}); write one 'name: value' per line") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ParameterFileInvalid(f"{path} is not a flat mapping; write one 'name: value' per line")
    return content


def values_from(path: Path | None, overrides: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the values of a parameter file (None: parameters/sandbox.yaml), overridden by `-p` pairs.

    A path in the file is relative to the file's folder, one given with -p to the current folder; `~` is the home folder.
    Raises `ParameterFileInvalid` and `InputError`.
    """
    file = path or parameters_folder() / "sandbox.yaml"
    return _with_paths(read_parameters(file), file.absolute().parent) | _with_paths(
        from_command_line(overrides), Path.cwd()
    )


def path_parameters() -> set[str]:
    """Return the names of the parameters that are the path of a file, or a list of paths."""
    fields = {name: field for model in STEP_INPUTS.values() for name, field in model.model_fields.items()}
    return {name for name, field in fields.items() if field.json_schema_extra in (PATH, PATHS)}


def _with_paths(given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return `given` with `~` and relative paths resolved: those of a file against its folder."""
    values = dict(given)
    for name in path_parameters() & set(given):
        value = given[name]
        if isinstance(value, str) and value:
            values[name] = _absolute(value, folder)
        elif isinstance(value, list):
            values[name] = [_absolute(one, folder) if isinstance(one, str) and one else one for one in value]
    return values


def _absolute(path: str, folder: Path) -> str:
    return os.path.normpath(folder / os.path.expanduser(path))


def from_command_line(given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return `-p NAME VALUE` pairs as typed values: strings stay strings, other values are parsed as YAML."""
    fields = {name: field for model in STEP_INPUTS.values() for name, field in model.model_fields.items()}
    values: dict[str, Any] = {}
    for name, text in given:
        if name in fields and isinstance(fields[name].default, str):
            values[name] = text
            continue
        try:
            values[name] = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
        except (yaml.YAMLError, ValueError, RecursionError):
            raise InputError([(name, f"{text!r} is not a valid value; write it as in a YAML file")]) from None
    return values
