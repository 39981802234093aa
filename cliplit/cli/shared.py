"""What the commands share: options made from fields and settings, and how values and tables are printed.

`fields_of` and `of_settings` give builders: functions whose signature is a list of options. `takes` puts the options of
builders into the signature of a command, and gives the command what they build.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from cliplit.errors import CliplitError
from cliplit.settings import Settings, describe

FOLDERS = {  # option: setting
    "data": "data.sets",
    "backlit": "data.backlit",
    "well_lit": "data.well_lit",
    "test_backlit": "data.test_backlit",
    "test_reference": "data.test_reference",
}
Root = Annotated[Path, typer.Option("--root", metavar="DIR", help="Folder of all data sets.")]


def option(name: str, kind: Any, default: Any, notes: Mapping[str, Any]) -> Parameter:
    """The option `--name` as a parameter of a command: a flag for a bool, repeatable for a tuple.

    Args:
        notes: `about`, the help; perhaps `unit`, which is shown for the value, and `least`, the smallest value.
    """
    flag = f"--{name.replace('_', '-')}"
    about, unit = notes["about"], notes.get("unit", "").upper()
    if kind is bool:
        flag, unit = (f"{flag}/--no-{flag[2:]}" if default else flag), ""
    elif get_origin(kind) is tuple:
        kind, unit, about = list[get_args(kind)[0]], unit.removesuffix("S"), f"{about}; repeatable"
    about = about[:1].upper() + about[1:] + ("" if about.endswith(".") else ".")
    info = typer.Option(flag, metavar=unit or None, help=about, min=notes.get("least"))
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])


def fields_of(kind: type) -> Callable[..., Any]:
    """A builder of a dataclass, with an option for every field that says in its metadata what it is `about`."""

    def build(**given: Any) -> Any:
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})

    hints = get_type_hints(kind)
    chosen = [item for item in fields(kind) if "about" in item.metadata]
    options = [option(item.name, hints[item.name], item.default, item.metadata) for item in chosen]
    build.__signature__ = Signature(options)  # type: ignore[attr-defined]
    return build


def of_settings(names: Mapping[str, str]) -> Callable[..., dict[str, Any]]:
    """A builder of changed settings, whose names are given by option: the values that are given, with absolute paths."""
    rows = {row["name"]: row for row in describe(Settings())}

    def build(**given: Any) -> dict[str, Any]:
        changed = {}
        for name, value in given.items():
            value = tuple(value) if isinstance(value, list) else value
            row = rows[names[name]]
            if value != row["value"]:
                changed[row["name"]] = _absolute(value, row["unit"])
        return changed

    options = []
    for name, setting in names.items():
        default = rows[setting]["value"]
        options.append(option(name, type(default) if default != () else tuple[str, ...], default, rows[setting]))
    build.__signature__ = Signature(options)  # type: ignore[attr-defined]
    return build


def takes(**builders: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Replace parameters of a command by the options of their builders; the command then takes keywords only."""
    options = {name: signature(build, eval_str=True).parameters for name, build in builders.items()}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = signature(command).parameters
        parameters = [each for name in own for each in (options[name].values() if name in options else [own[name]])]

        @wraps(command)
        def composed(**given: Any) -> Any:
            for name, build in builders.items():
                given[name] = build(**{each: given.pop(each, known.default) for each, known in options[name].items()})
            return command(**given)

        keywords = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in parameters]
        composed.__signature__ = Signature(keywords)  # type: ignore[attr-defined]
        composed.__annotations__ = {each.name: each.annotation for each in parameters}
        return composed

    return decorate


def _absolute(value: Any, unit: str) -> Any:
    """A value with its paths made absolute, so that a run does not depend on where it is started."""
    if isinstance(value, tuple):
        return tuple(_absolute(each, unit) for each in value)
    if unit.startswith("NAME="):
        name, equals, path = value.partition("=")
        return f"{name}{equals}{os.path.abspath(path)}" if path else value
    return os.path.abspath(value) if unit in ("folder", "folders") else value


def folder(about: str) -> Any:
    return typer.Option(metavar="DIR", help=about)


def named(about: str) -> Any:
    return typer.Option(metavar="NAME", help=about)


def flag(name: str, about: str) -> Any:
    return typer.Option(name, help=about)


def pairs(changes: Sequence[str]) -> dict[str, str]:
    """Values of `--set` options by name."""
    split = [change.partition("=") for change in changes]
    for change, (name, equals, _) in zip(changes, split, strict=True):
        if not name or not equals:
            raise CliplitError(f"--set {change} is not of the form NAME=VALUE")
    return {name: value for name, _, value in split}


def shown(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ",".join(map(shown, value))
    return json.dumps(value) if isinstance(value, dict) else str(value)


def counted(number: int, noun: str) -> str:
    """A number of things: "1 photo", "3 photos"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def not_looked_into(folders: int) -> str | None:
    """That there are folders below which were passed over, if there are."""
    return f"{counted(folders, 'folder')} below not looked into (--recursive)" if folders else None


def joined(*parts: str | None) -> str:
    """The parts that are there, as one line."""
    return "; ".join(part for part in parts if part)


def print_columns(rows: list[list[str]]) -> None:
    """Print rows of equally many cells, aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
