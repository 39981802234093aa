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
Root = Annotated[Path, typer.Option("--root", metavar="DIR", help="Folder of all data sets.")]
folder = partial(typer.Option, metavar="DIR")


def flag(name: str, about: str) -> Any:
    return typer.Option(name, help=about)


def fields_of(kind: type) -> Callable[..., Any]:
    """A builder, whose signature is a list of options: of a dataclass, with one for each field that says what it is `about`."""
    options = {item.name: (item.default, item.metadata) for item in fields(kind) if "about" in item.metadata}
    return _builder(lambda **given: check_values(kind(**given)), options)


def of_settings(names: Mapping[str, str]) -> Callable[..., dict[str, Any]]:
    """A builder of changed settings, whose names are given by option: the values that are given."""
    rows = {row["name"]: row for row in describe(Settings())}

    def changes(**given: Any) -> dict[str, Any]:
        for name, value in given.items():
            if value == "" or (isinstance(value, tuple) and "" in value):
                raise CliplitError(f"--{name.replace('_', '-')}: an argument is empty; leave it out, or give one")
        return {names[name]: value for name, value in given.items() if value not in (None, (), False)}

    return _builder(changes, {name: (rows[setting]["value"], rows[setting]) for name, setting in names.items()}, True)


def _builder(
    build: Callable[..., Any], options: Mapping[str, tuple[Any, Mapping[str, Any]]], optional: bool = False
) -> Callable[..., Any]:
    """A function that takes options by name: their defaults, and notes on each.

    A bool is a flag, a tuple of texts is repeatable. The notes are `about`, the help; perhaps `unit`, which is shown for
    the value.

    Args:
        optional: an option that is not given is None, and not its default.
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
    """Replace parameters of a command by the options of their builders; the command then takes keywords only."""
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
    """A value with places at which a line may end, and with quotes if there would be nothing to see."""
    if isinstance(value, (tuple, list)):
        return ", ".join(map(shown, value)) or "none"
    return json.dumps(value) if isinstance(value, dict) or value == "" else str(value)


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
