"""Values of settings: which are allowed, which differ, and how folders are spelled."""

import os
from collections.abc import Callable
from typing import Any

from cliplit.errors import CliplitError
from cliplit.settings import PLACES, Settings, flatten, leaves, override, shown


def check_values(settings: Any) -> Any:
    """Return settings, or other options with such fields, if all their values are allowed.

    Raises CliplitError for the first value that is not allowed; the message says which values are.
    """
    for name, item, value in leaves(settings):
        within = item.metadata.get("within", "")
        items = value if isinstance(value, tuple) else (value,)
        if not items and item.metadata.get("some"):
            raise CliplitError(f"setting '{name}' is empty; give at least one value")
        for one in items:
            if within and not _is_within(one, within):
                raise CliplitError(f"setting '{name}' must be {in_words(within)}, got {shown(value)}")
    if not isinstance(settings, Settings):
        return settings
    light, network = settings.backlight, settings.enhancement
    ordered = {
        "backlight.stops_min and stops_max": (light.stops_min, light.stops_max),
        "backlight.coverage_min and coverage_max": (light.coverage_min, light.coverage_max),
        "enhancement.min_illumination and max_illumination": (network.min_illumination, network.max_illumination),
        "enhancement.zoom": network.zoom,
        "prompts.zoom": settings.prompts.zoom,
    }
    for name, (low, high) in ordered.items():
        if low > high:
            raise CliplitError(f"settings {name}: the first, {low:g}, must not be larger than the second, {high:g}")
    return settings


def _is_within(value: Any, within: str) -> bool:
    """Whether a value is in an interval such as "(0, 1]", or one of values such as "a | b"."""
    if within[0] not in "([":
        return value in within.split(" | ")
    low, high = map(float, within[1:-1].split(","))
    return (low < value or (low == value and within[0] == "[")) and (
        value < high or (value == high and within[-1] == "]")
    )


def in_words(within: str) -> str:
    """The values that an interval such as "(0, 1]" or a choice such as "a | b" allows: "more than 0, at most 1", "a or b"."""
    if within[0] not in "([":
        return " or ".join(within.replace(" | ", ", ").rsplit(", ", 1))
    low, high = within[1:-1].split(", ")
    if within[0] + within[-1] == "[]" and high != "inf":
        return f"from {low} to {high}"
    least = "" if low == "-inf" else f"{low} or more" if within[0] == "[" else f"more than {low}"
    most = "" if high == "inf" else f"at most {high}" if within[-1] == "]" else f"less than {high}"
    return ", ".join(filter(None, (least, most))) or "any number"


def placed(settings: Settings, stored: Settings | None) -> Settings:
    """The settings with absolute paths, so that a run does not depend on where a command is started.

    A path to the same place as the stored one keeps the stored spelling.
    """
    known = flatten(stored or Settings())
    changes = {}
    for name, item, value in leaves(settings):
        if (unit := item.metadata.get("unit")) in PLACES:
            there, wanted = (_spelled(each, unit, os.path.realpath) for each in (known[name], value))
            changes[name] = known[name] if there == wanted else _spelled(value, unit, os.path.abspath)
    return override(settings, changes)


def _spelled(place: Any, unit: str, how: Callable[[str], str]) -> Any:
    """A path, NAME=PATH, or several of them, spelled in another way."""
    if isinstance(place, tuple):
        return tuple(_spelled(each, unit, how) for each in place)
    name, equals, path = place.partition("=") if unit.startswith("NAME=") else ("", "", place)
    return f"{name}{equals}{how(path)}" if path else place


def differing(before: Settings, after: Settings) -> list[str]:
    """Settings that differ and may change a result, as "name before -> after". `watch` and `device` never change one."""
    then, now = flatten(before), flatten(after)
    names = [name for name in now if name != "device" and not name.startswith("watch.")]
    return [f"{name} {shown(then[name])} -> {shown(now[name])}" for name in names if then[name] != now[name]]
