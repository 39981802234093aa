"""What the commands share: options made from fields and settings, and how values and tables are printed."""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial, wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from cliplit.errors import CliplitError
from cliplit.settings import Settings, describe
from cliplit.values import check_values

FOLDERS = {  # option: setting
    "data": "data.sets",
    "backlit": "data.backlit",
    "well_lit": "data.well_lit",
    "test_backlit": "data.test_backlit",
    "test_reference": "data.test_reference",
}
Root = Annotated[Path, typer.Option("--root", metavar="DIR", help="Folder that holds the data sets.")]
folder = partial(typer.Option, metavar="DIR")


def flag(name: str, about: str) -> Any:
    return typer.Option(name, help=about)


def fields_of(kind: type) -> Callable[..., Any]:
    """A builder of a dataclass. Its signature has one option for each field with an `about` text."""
    options = {item.name: (item.default, item.metadata) for item in fields(kind) if "about" in item.metadata}
    return _builder(lambda **given: check_values(kind(**given)), options)


def of_settings(names: Mapping[str, str]) -> Callable[..., dict[str, Any]]:
    """A builder of changed settings, by name. `names` maps each option to its setting; options left out change nothing."""
    rows = {row["name"]: row for row in describe(Settings())}

    def changes(**given: Any) -> dict[str, Any]:
        for name, value in given.items():
            if value == "" or (isinstance(value, tuple) and "" in value):
                raise CliplitError(f"--{name.replace('_', '-')}: the value is empty; give one, or leave the option out")
        return {names[name]: value for name, value in given.items() if value not in (None, (), False)}

    return _builder(changes, {name: (rows[setting]["value"], rows[setting]) for name, setting in names.items()}, True)


def _builder(
    build: Callable[..., Any], options: Mapping[str, tuple[Any, Mapping[str, Any]]], optional: bool = False
) -> Callable[..., Any]:
    """A function that takes these options as keywords. Each has a default and notes: `about`, the help, and perhaps `unit`,
    the placeholder for the value. A bool becomes a flag, and a tuple of texts becomes repeatable.

    Args:
        optional: an option that is not given is None instead of its default.
    """
    parameters = []
    for name, (default, notes) in options.items():
        kind, about, unit = type(default), notes["about"], notes.get("unit", "").upper()
        if kind is tuple:
            kind, about, unit = list[str], f"{about}; repeatable", unit.removesuffix("S")
        elif optional and kind is not bool:
            kind, default = kind | None, None  # type: ignore[assignment]
        info = typer.Option(
            f"--{name.replace('_', '-')}",
            metavar=unit if unit and kind is not bool else None,
            help=about[:1].upper() + about[1:] + ("" if about.endswith(".") else "."),
        )
        parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]))
    builder: Any = partial(build)
    builder.__signature__ = Signature(parameters)
    return builder


def takes(**builders: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Replace parameters of a command with the options of their builders. The command then takes keywords only."""
    options = {name: signature(build, eval_str=True).parameters for name, build in builders.items()}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def composed(**given: Any) -> Any:
            for name, build in builders.items():
                own = {each: given.pop(each, known.default) for each, known in options[name].items()}
                given[name] = build(**{each: tuple(one) if isinstance(one, list) else one for each, one in own.items()})
            return command(**given)

        parameters = [
            each.replace(kind=Parameter.KEYWORD_ONLY)
            for name, own in signature(command).parameters.items()
            for each in options.get(name, {name: own}).values()
        ]
        composed.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        composed.__annotations__ = {each.name: each.annotation for each in parameters}
        return composed

    return decorate


def shown(value: Any) -> str:
    """A value as text that can be wrapped; an empty text becomes a pair of quotes."""
    if isinstance(value, (tuple, list)):
        return ", ".join(map(shown, value)) or "none"
    return json.dumps(value) if isinstance(value, dict) or value == "" else str(value)


def counted(number: int, noun: str) -> str:
    """A number of things: "1 photo", "3 photos"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def not_looked_into(folders: int) -> str | None:
    """A note on subfolders that were skipped, if there are any."""
    return f"{counted(folders, 'subfolder')} skipped (--recursive includes them)" if folders else None


def joined(*parts: str | None) -> str:
    """The parts as one line, without those that are empty."""
    return "; ".join(part for part in parts if part)


def print_columns(rows: list[list[str]]) -> None:
    """Print rows in aligned columns; all rows have the same number of cells."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
