"""The data sets of the paper and its successors: where they are, what they hold, whose they are. catalog.json lists them.

A folder is found by its exact name; nothing is guessed from a part of a name.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Location:
    """A file on the web, or a shared folder of Google Drive by its id; size in bytes and SHA-256 if published."""

    url: str = ""
    drive: str = ""
    bytes: int | None = None
    sha256: str | None = None

    def __str__(self) -> str:
        return self.url or f"https://drive.google.com/drive/folders/{self.drive}"


@dataclass(frozen=True)
class Subset:
    """The images of one role: their number, and what publishers call their folder.

    A published name is the end of a path; the first one that is there counts. `first_of`: the published name of a
    larger set, of which the first `count` images by name are taken.
    """

    role: str
    count: int
    published: tuple[str, ...]
    first_of: str = ""


@dataclass(frozen=True)
class DataSet:
    """A known data set.

    `sources`: names and locations, the first one by default. `numbered_copies`: "0152(2)" is a copy of "0152".
    """

    name: str
    title: str
    sources: Mapping[str, tuple[Location, ...]]
    subsets: tuple[Subset, ...]
    licence: str
    numbered_copies: bool = False


def _data_set(name: str, known: dict[str, Any]) -> DataSet:
    sources = {source: tuple(Location(**place) for place in places) for source, places in known["sources"].items()}
    subsets = tuple(Subset(**subset | {"published": tuple(subset["published"])}) for subset in known["subsets"])
    return DataSet(name, **known | {"sources": sources, "subsets": subsets})


_SETS = json.loads(Path(__file__).with_name("catalog.json").read_text(encoding="utf-8"))["sets"]
CATALOG = {name: _data_set(name, known) for name, known in _SETS.items()}
