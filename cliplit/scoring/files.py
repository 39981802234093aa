"""Scores of image files by any metric: read once, shared by all metrics, kept for the next time."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tqdm import tqdm

from cliplit.errors import CliplitError
from cliplit.files.atomic import sha256
from cliplit.files.folders import find_images
from cliplit.files.images import decode, image_size
from cliplit.files.pairs import Pairs, pair
from cliplit.scoring.cache import ScoreCache, default_cache, key
from cliplit.scoring.metrics import PRESETS, Conventions, Meter, catalogue, check_conventions, choose, fingerprint
from cliplit.scoring.weights import why_unavailable

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from numpy import ndarray

BATCH_PIXELS = 1 << 24  # on accelerators; on a CPU batches gain nothing, several processes do
READERS = 4  # threads that decode ahead
MOST_JOBS = 8  # processes on a CPU
IMAGES_PER_JOB = 4  # no process for fewer


@dataclass(frozen=True)
class Scoring:
    """How files are scored.

    Attributes:
        recursive: also images in folders below.
        allow_missing: images without reference, or with one of another size, get NaN instead of an error.
        device: auto, cpu, cuda, cuda:1 ...
        jobs: images at a time on a CPU, each by one thread; 0: as many as there are cores, up to 8.
        cache: file that keeps scores by content; None keeps none; by default one in the user's cache folder.
        progress: a progress bar, on a terminal.
    """

    recursive: bool = False
    allow_missing: bool = False
    device: str = "auto"
    jobs: int = 0
    cache: Path | str | None = "default"
    progress: bool = True


@dataclass(frozen=True)
class Scores:
    """Scores of images and everything that is to be said beside them.

    Attributes:
        table: one row per readable image: `image`, then one column per metric that could be computed; NaN where an
            image has no reference or is refused by the metric.
        unavailable: metrics that cannot be computed on this machine, with the reason.
        problems: one line for every file that cannot be read and every image that a metric refuses.
        unpaired: one line for every missing partner and every pair of different sizes.
        duplicates: images left out as copies of others.
        others: files in the folders that are not images by their extension.
        computed: scores that were computed now; all others were known.
    """

    table: "pd.DataFrame"
    unavailable: dict[str, str]
    problems: list[str]
    unpaired: list[str]
    duplicates: list[str]
    others: int
    computed: int


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
        reference: folder with a reference of the same stem and size for every image; wanted by metrics that compare.
        conventions: a preset (cliplit, clip-lit, rave) or conventions of your own.
        options: fields of `Scoring`.
    Raises:
        CliplitError: unknown options, and see `score_files`.
    """
    valid = [item.name for item in fields(Scoring)]
    unknown = [name for name in options if name not in valid]
    if unknown:
        raise CliplitError(f"unknown option '{unknown[0]}'; valid: {', '.join(valid)}")
    return score_files(paths, metrics, reference, conventions, Scoring(**options)).table


def score_files(
    paths: str | Path | Sequence[str | Path],
    metrics: str | Iterable[str] = "nr",
    reference: str | Path | None = None,
    conventions: str | Conventions = "cliplit",
    how: Scoring = Scoring(),
) -> Scores:
    """As `score`, with everything that is to be said beside the table.

    Raises:
        CliplitError: no such path, no readable images, unknown metric or preset, missing partners (lists them), no metric
            that can be computed on this machine.
    """
    agreed = _conventions(conventions)
    wanted = choose(metrics)
    found = find_images([paths] if isinstance(paths, (str, Path)) else paths, how.recursive)
    comparing = [name for name in wanted if catalogue()[name].compares]
    if comparing and not reference and not how.allow_missing:
        raise CliplitError(
            f"{', '.join(comparing)}: to be compared with references; give their folder with --reference"
        )
    pairs = pair(found, reference) if reference else Pairs({})
    names = [name for name in found.images if name not in pairs.duplicates]
    items = [_Item(name, found.images[name], pairs.references.get(name)) for name in names]
    with ThreadPoolExecutor(READERS) as pool:
        list(tqdm(pool.map(_inspect, items), "reading", len(items), leave=False, disable=_no_bar(how)))
    unpaired = pairs.problems + [line for item in items for line in item.unpaired]
    if unpaired and not how.allow_missing:
        raise CliplitError(f"images and references do not match (or --allow-missing): {'; '.join(unpaired)}")

    unavailable = why_unavailable(wanted)
    able = [name for name in wanted if name not in unavailable]
    if not able:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in unavailable.items())
        raise CliplitError(f"none of these metrics can be computed here ({reasons})")
    known = ScoreCache(default_cache() if how.cache == "default" else how.cache)
    _look_up(items, able, agreed, known)
    failed = _compute(items, agreed, known, how)
    readable = [item for item in items if item.readable]
    if not readable:
        raise CliplitError(f"none of {len(items)} images can be read; the first: {items[0].problems[0]}")
    return Scores(
        table=_table(readable, [name for name in able if name not in failed]),
        unavailable=unavailable | failed,
        problems=[line for item in items for line in item.problems],
        unpaired=unpaired,
        duplicates=pairs.duplicates,
        others=found.others,
        computed=sum(name in item.scores for item in items for name in item.pending),
    )


@dataclass
class _Item:
    """An image on its way to its scores."""

    name: str
    path: Path
    reference: Path | None
    digests: tuple[str, str | None] = ("", None)
    size: tuple[int, int] = (0, 0)
    readable: bool = True
    problems: list[str] = field(default_factory=list)
    unpaired: list[str] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)
    pending: dict[str, str] = field(default_factory=dict)  # metric: its key in the cache

    @property
    def files(self) -> list[Path]:
        return [self.path, self.reference] if self.reference else [self.path]

    def give_up(self, reason: str) -> None:
        self.readable = False
        self.pending = {}
        self.problems.append(reason)

    def take(self, metric: str, outcome: float | str) -> None:
        """A score, or the reason why there is none."""
        if isinstance(outcome, str):
            self.problems.append(f"{self.path}: {outcome}")
        else:
            self.scores[metric] = outcome


class _Unreadable(NamedTuple):
    """An image that cannot be read, or whose reference cannot; the reason names the file."""

    reason: str


_Outcome = dict[str, float | str] | _Unreadable  # scores, or reasons why there are none, by metric


def _no_bar(how: Scoring) -> bool | None:
    """tqdm's `disable`; None: a bar on a terminal only."""
    return None if how.progress else True


def _conventions(given: str | Conventions) -> Conventions:
    if isinstance(given, str):
        if given not in PRESETS:
            raise CliplitError(f"unknown preset '{given}'; valid: {', '.join(PRESETS)}")
        given = PRESETS[given]
    check_conventions(given)
    return given


def _inspect(item: _Item) -> None:
    """Fill in sizes, from the headers, and digests."""
    try:
        item.size = image_size(item.path)
        if item.reference:
            sizes = (item.size, image_size(item.reference))
            if sizes[0] != sizes[1]:
                shown = " and ".join(f"{width}x{height}" for width, height in sizes)
                item.unpaired.append(f"{item.name} and its reference {item.reference.name} differ in size ({shown})")
                item.reference = None
        item.digests = (sha256(item.path), sha256(item.reference) if item.reference else None)
    except (CliplitError, OSError) as error:
        item.give_up(str(error))


def _look_up(items: list[_Item], names: list[str], conventions: Conventions, known: ScoreCache) -> None:
    """Fill in what is known, and note the keys of what is not."""
    fingerprints = {name: fingerprint(name, conventions) for name in names}
    for item in (item for item in items if item.readable):
        fitting = [name for name in names if item.reference or not catalogue()[name].compares]
        keys = {name: key(*item.digests, fingerprints[name]) for name in fitting}
        outcomes = known.get(keys.values())
        item.pending = {name: k for name, k in keys.items() if k not in outcomes}
        for name in (name for name in fitting if name not in item.pending):
            item.take(name, outcomes[keys[name]])


def _compute(items: list[_Item], conventions: Conventions, known: ScoreCache, how: Scoring) -> dict[str, str]:
    """Compute and keep what is pending; returns the metrics that cannot be built, with the reason."""
    pending = _from_first_readable([item for item in items if item.pending])
    if not pending:
        return {}
    from cliplit.engine.compute import find_device

    place = find_device(how.device)
    meter = Meter(dict.fromkeys(name for item in pending for name in item.pending), conventions, place)
    if place.type == "cpu":
        count = how.jobs or min(os.cpu_count() or 1, MOST_JOBS, len(pending) // IMAGES_PER_JOB)
        outcomes = _by_processes(meter, pending, count) if count > 1 else _one_by_one(meter, pending)
    else:
        outcomes = _by_batches(meter, _batches(pending), place)
    with tqdm(total=len(pending), desc="scoring", unit="image", leave=False, disable=_no_bar(how)) as bar:
        for item, outcome in outcomes:
            if isinstance(outcome, _Unreadable):
                item.give_up(outcome.reason)
            else:
                known.put({item.pending[metric]: score for metric, score in outcome.items()})
                for metric, score in outcome.items():
                    item.take(metric, score)
            bar.update()
    return meter.failed


def _from_first_readable(items: list[_Item]) -> list[_Item]:
    """Without the unreadable images before it: if there are no others, no metric has to be loaded."""
    for n, item in enumerate(items):
        arrays = _decode(item)
        if not isinstance(arrays, _Unreadable):
            return items[n:]
        item.give_up(arrays.reason)
    return []


def _one_by_one(meter: Meter, items: list[_Item]) -> Iterator[tuple[_Item, _Outcome]]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in `_by_processes`: scores must not depend on the number of cores
    try:
        for item in items:
            yield item, _outcome(meter, item)
    finally:
        torch.set_num_threads(threads)


def _by_processes(meter: Meter, items: list[_Item], count: int) -> Iterator[tuple[_Item, _Outcome]]:
    """Several images at a time, each by one thread."""
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(count, context, initializer=_become_worker, initargs=(meter,))
    try:
        yield from zip(items, pool.map(_work, items), strict=True)
    except BrokenProcessPool:
        raise CliplitError(
            "a process that scores images was ended from outside, perhaps for memory; use --jobs 1"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_meter: Meter  # of a worker process, by `_become_worker`: sent once, not with every image


def _become_worker(meter: Meter) -> None:
    import torch

    global _meter
    _meter = meter
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the pool
    torch.set_num_threads(1)


def _work(item: _Item) -> _Outcome:
    return _outcome(_meter, item)


def _outcome(meter: Meter, item: _Item) -> _Outcome:
    """Read and score an image on the CPU."""
    arrays = _decode(item)
    return arrays if isinstance(arrays, _Unreadable) else _measured(meter, [item], [arrays], "cpu")[0]


def _by_batches(
    meter: Meter, batches: list[list[_Item]], place: "torch.device | str"
) -> Iterator[tuple[_Item, _Outcome]]:
    """Images of the same size and with the same pending metrics together; the next ones are read meanwhile."""
    with ThreadPoolExecutor(READERS) as pool:
        ahead: list[list[Future[list[ndarray] | _Unreadable]]] = []
        for n, batch in enumerate(batches):
            while len(ahead) < min(READERS, len(batches) - n):
                ahead.append([pool.submit(_decode, item) for item in batches[n + len(ahead)]])
            good = []
            decoded = []
            for item, job in zip(batch, ahead.pop(0), strict=True):
                arrays = job.result()
                if isinstance(arrays, _Unreadable):
                    yield item, arrays
                else:
                    good.append(item)
                    decoded.append(arrays)
            if good:
                yield from zip(good, _measured(meter, good, decoded, place), strict=True)


def _measured(
    meter: Meter, batch: list[_Item], arrays: list[list["ndarray"]], place: "torch.device | str"
) -> list[dict[str, float | str]]:
    """Pending scores, or the reasons why there are none, of images of one size."""
    import torch

    from cliplit.files.tensors import to_tensor

    sides = [torch.stack([to_tensor(array) for array in side]).to(place) for side in zip(*arrays, strict=True)]
    outcomes: list[dict[str, float | str]] = [{} for _ in batch]
    for metric in (metric for metric in batch[0].pending if metric not in meter.failed):
        scores: Sequence[float | str]
        try:
            scores = meter.measure(metric, *sides)
        except CliplitError as error:
            scores = [str(error)] * len(batch)
        for outcome, score in zip(outcomes, scores, strict=True):
            outcome[metric] = score
    return outcomes


def _batches(items: list[_Item]) -> list[list[_Item]]:
    alike: dict[Any, list[_Item]] = {}
    for item in items:
        alike.setdefault((item.size, item.reference is None, tuple(item.pending)), []).append(item)
    batches = []
    for (size, *_), group in alike.items():
        count = max(1, BATCH_PIXELS // (size[0] * size[1]))
        batches += [group[start : start + count] for start in range(0, len(group), count)]
    return batches


def _decode(item: _Item) -> "list[ndarray] | _Unreadable":
    """Arrays (H, W, 3) of an image and its reference, if it has one."""
    try:
        return [decode(file) for file in item.files]
    except CliplitError as error:
        return _Unreadable(str(error))


def _table(items: list[_Item], names: list[str]) -> "pd.DataFrame":
    import pandas as pd

    rows = [{"image": item.name} | {name: item.scores.get(name, float("nan")) for name in names} for item in items]
    return pd.DataFrame(rows, columns=["image", *names])
