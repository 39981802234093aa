"""Scores image files with any metric. Images are read once for all metrics, and scores are kept for the next time."""

import hashlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from cliplit.engine.processes import workers
from cliplit.errors import CliplitError, one_line, printable
from cliplit.files.atomic import user_cache
from cliplit.files.folders import Found, Pairs, find_images, pair
from cliplit.files.images import MAX_PIXELS, decode, errors_named, size_in
from cliplit.scoring.cache import ScoreCache, key
from cliplit.scoring.metrics import Conventions, Meter, catalogue, choose, conventions_of, sensible
from cliplit.scoring.weights import left_out, why_unavailable
from cliplit.settings import setting

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from numpy import ndarray

READERS = 4  # threads that decode ahead
AHEAD = 8  # images at most that wait for their turn
MOST_JOBS = 8  # processes on a CPU
IMAGES_PER_JOB = 4  # at least so many images for each process
START = "fork" if sys.platform == "linux" else "spawn"  # start method of worker processes

Outcome = dict[str, float | str] | str  # a score, or the reason for its lack, by metric; or why the image is unreadable


@dataclass(frozen=True)
class Scoring:
    """How files are scored. All fields except the last are options of `cliplit score`."""

    recursive: bool = setting(False, "cliplit", about="also score images in subfolders")
    allow_missing: bool = setting(
        False, "cliplit", about="accept images whose reference is missing or differs in size; they get NaN"
    )
    device: str = setting("auto", "cliplit", about="the device: auto, cpu, cuda, cuda:1 ...")
    jobs: int = setting(0, "cliplit", "images", "number at a time on a CPU, a thread each; 0: one per core, up to 8")
    max_pixels: int = setting(0, "cliplit", "pixels", "refuse images with more pixels; 0: 268 million")
    cache: Path | str | None = "default"  # file that keeps scores, by default in the user's cache; None: keep nothing


@dataclass(frozen=True)
class Scores:
    """Scores of images, and everything else to report.

    Attributes:
        table: one row per readable image: `image`, then one column per metric that could be computed; NaN if an
            image has no reference or a metric gives no sensible score.
        unavailable: metrics that cannot be computed on this machine, with the reason.
        problems: one line for every file that cannot be read, has no partner of the same size, or has no score.
        duplicates: images left out because they are copies of others.
        computed: number of scores computed now; all others come from the cache.
        found: the files that were found, and what lies beside them.
    """

    table: "pd.DataFrame"
    unavailable: dict[str, str]
    problems: list[str]
    duplicates: list[str]
    computed: int
    found: Found


def score(
    paths: str | Path | Sequence[str | Path],
    metrics: str | Iterable[str] = "nr",
    reference: str | Path | None = None,
    conventions: str | Conventions = "cliplit",
    **options: Any,
) -> "pd.DataFrame":
    """Score image files: one row per image, one column per metric.

    Args:
        paths: files and folders.
        metrics: names that pyiqa knows, or the groups paper, fr, nr.
        reference: folder with a reference of the same stem and size for every image; needed by metrics that compare.
        conventions: a preset (cliplit, clip-lit, rave) or your own conventions.
        options: fields of `Scoring`.
    Raises:
        CliplitError: no such path, no readable images, unknown metric or preset, missing partners (it lists them), no
            metric that can be computed on this machine, or a cache that fails.
    """
    return score_files(paths, metrics, reference, conventions, Scoring(**options)).table


def score_files(
    paths: str | Path | Sequence[str | Path],
    metrics: str | Iterable[str] = "nr",
    reference: str | Path | None = None,
    conventions: str | Conventions = "cliplit",
    how: Scoring = Scoring(),
) -> Scores:
    """As `score`, with everything else to report."""
    agreed = conventions_of(conventions)
    wanted = choose(metrics)
    found = find_images([paths] if isinstance(paths, (str, Path)) else paths, how.recursive)
    comparing = [name for name in wanted if catalogue()[name].compares]
    if comparing and not reference and not how.allow_missing:
        raise CliplitError(f"{', '.join(comparing)}: no references; give their folder with --reference")
    pairs = pair(found, reference, how.recursive) if reference else Pairs({})
    files = {name: file for name, file in found.images.items() if name not in pairs.duplicates}
    items = [Item(name, file, pairs.references.get(name), how.max_pixels or MAX_PIXELS) for name, file in files.items()]
    bar = partial(tqdm, leave=False, disable=None)  # on a terminal only
    with ThreadPoolExecutor(READERS) as pool:
        unpaired = [*pairs.problems, *filter(None, bar(pool.map(look_at, items), "reading", len(items)))]
    if unpaired and not how.allow_missing:
        raise CliplitError(f"images and references do not match (--allow-missing accepts it): {'; '.join(unpaired)}")

    unavailable = why_unavailable(wanted)
    able = [name for name in wanted if name not in unavailable]
    if not able:
        raise CliplitError(f"none of these metrics can be computed here ({'; '.join(left_out(unavailable))})")
    import pandas as pd

    from cliplit.engine.compute import find_device

    place = find_device(how.device)
    known = ScoreCache(user_cache() / "scores.sqlite" if how.cache == "default" else how.cache)
    for item in (item for item in items if not item.failure):
        fitting = [name for name in able if item.reference or name not in comparing]
        keys = {name: key(item.digests, name, agreed, place.type) for name in fitting}
        before = known.get(keys.values())
        item.pending = {name: k for name, k in keys.items() if k not in before}
        done = {name: before[k] for name, k in keys.items() if k in before}
        item.outcomes = {name: one if isinstance(one, str) else sensible(name, one) for name, one in done.items()}
    pending = [item for item in items if item.pending]
    while pending and isinstance(reason := read(pending[0]), str):
        pending.pop(0).failure = reason  # no metric is loaded before an image can be read
    if pending:
        meter = Meter(dict.fromkeys(name for item in pending for name in item.pending), agreed, place)
        unavailable |= meter.failed
        processes = how.jobs or min(os.cpu_count() or 1, MOST_JOBS, len(pending) // IMAGES_PER_JOB)
        apart = place.type == "cpu" and processes > 1
        outcomes = by_processes(meter, pending, processes) if apart else in_turn(meter, pending, place)
        for item, outcome in bar(outcomes, "scoring", len(pending), unit="image"):
            if isinstance(outcome, str):
                item.failure = outcome
            else:
                known.put({item.pending[metric]: score for metric, score in outcome.items()})
                item.outcomes |= outcome
    readable = [item for item in items if not item.failure]
    if not readable:
        raise CliplitError(f"none of {len(items)} images can be read; the first: {items[0].failure}")
    columns = ["image", *(name for name in wanted if name not in unavailable)]
    table = pd.DataFrame([{"image": item.name} | item.scores for item in readable], columns=columns)
    problems = [*unpaired, *(f"{path}: {reason}" for path, reason in found.unread.items())]
    for item in items:
        problems += [f"{item.path}: {outcome}" for outcome in item.outcomes.values() if isinstance(outcome, str)]
        problems += [item.failure] if item.failure else []
    computed = sum(len(item.scores.keys() & item.pending) for item in readable)
    return Scores(table, unavailable, [*map(printable, problems)], pairs.duplicates, computed, found)


@dataclass
class Item:
    """An image that is being scored."""

    name: str
    path: Path
    reference: Path | None
    max_pixels: int = MAX_PIXELS
    digests: tuple[str, str | None] = ("", None)
    failure: str = ""  # why it cannot be read
    pending: dict[str, str] = field(default_factory=dict)  # metric: its key in the cache
    outcomes: dict[str, float | str] = field(default_factory=dict)  # scores, or reasons for their lack

    @property
    def scores(self) -> dict[str, float]:
        return {name: one for name, one in self.outcomes.items() if not isinstance(one, str)}


def look_at(item: Item) -> str:
    """Fill in the digests, and drop a reference of another size. Each file is opened once. Returns how the sizes differ."""
    try:
        looks = [_look(file, item.max_pixels) for file in (item.path, item.reference) if file]
    except CliplitError as error:
        item.failure = str(error)
        return ""
    item.digests = looks[0][1], looks[1][1] if item.reference else None
    if item.reference is None or looks[0][0] == looks[1][0]:
        return ""
    shown = " and ".join(f"{width}x{height}" for (width, height), _ in looks)
    line = f"{item.name} and its reference {item.reference.name} differ in size ({shown})"
    item.reference, item.digests = None, (looks[0][1], None)
    return line


def _look(path: Path, max_pixels: int) -> tuple[tuple[int, int], str]:
    """Width and height of an image, and the SHA-256 of its file."""
    with errors_named(path), open(path, "rb") as file:
        size = size_in(file, max_pixels)
        file.seek(0)
        return size, hashlib.sha256(file.read()).hexdigest()


def read(item: Item) -> "list[ndarray] | str":
    """Arrays (H, W, 3) of an image and its reference, if it has one; or why one cannot be read, with its file name."""
    try:
        return [decode(file, item.max_pixels) for file in (item.path, item.reference) if file]
    except CliplitError as error:
        return str(error)


def in_turn(meter: Meter, items: list[Item], place: "torch.device") -> Iterator[tuple[Item, Outcome]]:
    """Score one image after the other in this process, while the next ones are read.

    A CPU uses one thread, as in `by_processes`: scores must not depend on the number of cores.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1 if place.type == "cpu" else threads)
    try:
        with ThreadPoolExecutor(READERS) as pool:
            for start in range(0, len(items), AHEAD):
                some = items[start : start + AHEAD]
                for item, arrays in zip(some, pool.map(read, some), strict=True):
                    yield item, measured(meter, item.pending, arrays, place)
    finally:
        torch.set_num_threads(threads)


def by_processes(meter: Meter, items: list[Item], count: int) -> Iterator[tuple[Item, Outcome]]:
    """Score several images at a time, each with one thread."""
    try:
        with workers(count, START, _become_worker, meter) as pool:
            yield from zip(items, pool.map(_work, items), strict=True)
    except BrokenProcessPool:
        reason = "a process that scores images was killed, perhaps for lack of memory; use --jobs 1"
        raise CliplitError(reason) from None


_meter: Meter  # of a worker process; `_become_worker` sets it once, so it is not sent with every image


def _become_worker(meter: Meter) -> None:
    import torch

    global _meter
    _meter = meter
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the pool
    torch.set_num_threads(1)


def _work(item: Item) -> Outcome:
    return measured(_meter, item.pending, read(item), "cpu")


def measured(meter: Meter, names: Iterable[str], arrays: "list[ndarray] | str", place: "torch.device | str") -> Outcome:
    """The outcome of an image whose arrays `read` returned. A metric that fails does not affect the others."""
    from cliplit.files.tensors import to_tensor

    if isinstance(arrays, str):
        return arrays
    outcome: dict[str, float | str] = {}
    sides: list[torch.Tensor] = []
    for name in (name for name in names if name not in meter.failed):
        try:
            sides = sides or [to_tensor(array).contiguous()[None].to(place) for array in arrays]
            outcome[name] = sensible(name, meter.measure(name, *sides)[0])
        except Exception as error:  # a refusal, no memory, or pixels that do not match the header
            outcome[name] = str(error) if isinstance(error, CliplitError) else f"cannot be measured ({one_line(error)})"
    return outcome
