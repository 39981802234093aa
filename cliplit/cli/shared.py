"""What the commands share: kinds of options, and how values and tables are printed."""

import json
from collections.abc import Sequence
from typing import Any

import typer

from cliplit.errors import CliplitError


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
