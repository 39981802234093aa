"""Scores of image files by any metric: read once, shared by all metrics, kept for the next time."""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from cliplit.errors import CliplitError, did_you_mean, printable
from cliplit.files.folders import find_images
from cliplit.files.images import MAX_PIXELS
from cliplit.files.pairs import Pairs, pair
from cliplit.scoring import measuring
from cliplit.scoring.cache import ScoreCache, default_cache, key
from cliplit.scoring.measuring import READERS, Item, Unreadable
from cliplit.scoring.metrics import (
    Conventions,
    Meter,
    catalogue,
    check_conventions,
    choose,
    fingerprint,
    preset,
    sensible,
)
from cliplit.scoring.weights import by_reason, why_unavailable

if TYPE_CHECKING:
    import pandas as pd
    import torch

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
        max_pixels: images of more are refused; 0: 268 million.
        cache: file that keeps scores by content; None keeps none; by default one in the user's cache folder.
        progress: a progress bar, on a terminal.
    """

    recursive: bool = False
    allow_missing: bool = False
    device: str = "auto"
    jobs: int = 0
    max_pixels: int = 0
    cache: Path | str | None = "default"
    progress: bool = True


@dataclass(frozen=True)
class Scores:
    """Scores of images and everything that is to be said beside them.

    Attributes:
        table: one row per readable image: `image`, then one column per metric that could be computed; NaN where an
            image has no reference or a metric gives no sensible score.
        unavailable: metrics that cannot be computed on this machine, with the reason.
        problems: one line for every file or folder that cannot be read, and every image without a score by a metric.
        unpaired: one line for every missing partner and every pair of different sizes.
        duplicates: images left out as copies of others.
        others: files in the folders that are not images by their extension.
        computed: scores that were computed now; all others were known.
        passed: number of folders below that were not looked into.
        groups: every path that was given -> its rows of the table; an image may be in several.
        notes: what else is worth knowing: different images that share a reference, a cache that failed.
    """

    table: "pd.DataFrame"
    unavailable: dict[str, str]
    problems: list[str]
    unpaired: list[str]
    duplicates: list[str]
    others: int
    computed: int
    passed: int = 0
    groups: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


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
    for name in options:
        if name not in valid:
            raise CliplitError(f"unknown option '{name}'; valid: {', '.join(valid)}{did_you_mean(name, valid)}")
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
    agreed = preset(conventions) if isinstance(conventions, str) else conventions
    check_conventions(agreed)
    wanted = choose(metrics)
    found = find_images([paths] if isinstance(paths, (str, Path)) else paths, how.recursive)
    comparing = [name for name in wanted if catalogue()[name].compares]
    if comparing and not reference and not how.allow_missing:
        raise CliplitError(
            f"{', '.join(comparing)}: to be compared with references; give their folder with --reference"
        )
    pairs = pair(found, reference, how.recursive) if reference else Pairs({})
    names = [name for name in found.images if name not in pairs.duplicates]
    limit = how.max_pixels or MAX_PIXELS
    items = [Item(name, found.images[name], pairs.references.get(name), limit) for name in names]
    with ThreadPoolExecutor(READERS) as pool:
        list(tqdm(pool.map(measuring.look_at, items), "reading", len(items), leave=False, disable=_no_bar(how)))
    unpaired = pairs.problems + [line for item in items for line in item.unpaired]
    if unpaired and not how.allow_missing:
        raise CliplitError(f"images and references do not match (or --allow-missing): {'; '.join(unpaired)}")

    unavailable = why_unavailable(wanted)
    able = [name for name in wanted if name not in unavailable]
    if not able:
        reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason(unavailable).items())
        raise CliplitError(f"none of these metrics can be computed here ({reasons})")
    from cliplit.engine.compute import find_device

    place = find_device(how.device)
    known = ScoreCache(default_cache() if how.cache == "default" else how.cache)
    _look_up(items, {name: fingerprint(name, agreed, place.type) for name in able}, known)
    failed = _compute(items, agreed, place, known, how)
    readable = [item for item in items if item.readable]
    if not readable:
        raise CliplitError(f"none of {len(items)} images can be read; the first: {items[0].problems[0]}")
    rows = {item.name for item in readable}
    problems = [f"{path}: {reason}" for path, reason in found.unread.items()]
    problems += [line for item in items for line in item.problems]
    notes = pairs.notes + ([known.problem] if known.problem else [])
    return Scores(
        table=_table(readable, [name for name in able if name not in failed]),
        unavailable=unavailable | failed,
        problems=[*map(printable, problems)],
        unpaired=[*map(printable, unpaired)],
        duplicates=pairs.duplicates,
        others=found.others,
        computed=sum(name in item.scores for item in items for name in item.pending),
        passed=len(found.passed),
        groups={printable(given): [name for name in names if name in rows] for given, names in found.groups.items()},
        notes=[*map(printable, notes)],
    )


def _no_bar(how: Scoring) -> bool | None:
    """tqdm's `disable`; None: a bar on a terminal only."""
    return None if how.progress else True


def _look_up(items: list[Item], fingerprints: Mapping[str, dict[str, Any]], known: ScoreCache) -> None:
    """Fill in what is known of metrics by their fingerprints, and note the keys of what is not."""
    for item in (item for item in items if item.readable):
        fitting = [name for name in fingerprints if item.reference or not catalogue()[name].compares]
        keys = {name: key(*item.digests, fingerprints[name]) for name in fitting}
        outcomes = known.get(keys.values())
        item.pending = {name: k for name, k in keys.items() if k not in outcomes}
        for name in (name for name in fitting if name not in item.pending):
            outcome = outcomes[keys[name]]
            item.take(name, outcome if isinstance(outcome, str) else sensible(name, outcome))


def _compute(
    items: list[Item], conventions: Conventions, place: "torch.device", known: ScoreCache, how: Scoring
) -> dict[str, str]:
    """Compute and keep what is pending; returns the metrics that cannot be built, with the reason."""
    pending = _from_first_readable([item for item in items if item.pending])
    if not pending:
        return {}
    meter = Meter(dict.fromkeys(name for item in pending for name in item.pending), conventions, place)
    if place.type == "cpu":
        count = how.jobs or min(os.cpu_count() or 1, MOST_JOBS, len(pending) // IMAGES_PER_JOB)
        outcomes = measuring.by_processes(meter, pending, count) if count > 1 else measuring.one_by_one(meter, pending)
    else:
        outcomes = measuring.by_batches(meter, measuring.batches(pending), place)
    with tqdm(total=len(pending), desc="scoring", unit="image", leave=False, disable=_no_bar(how)) as bar:
        for item, outcome in outcomes:
            if isinstance(outcome, Unreadable):
                item.give_up(outcome.reason)
            else:
                known.put({item.pending[metric]: score for metric, score in outcome.items()})
                for metric, score in outcome.items():
                    item.take(metric, score)
            bar.update()
    return meter.failed


def _from_first_readable(items: list[Item]) -> list[Item]:
    """Without the unreadable images before it: if there are no others, no metric has to be loaded."""
    for n, item in enumerate(items):
        arrays = measuring.read(item)
        if not isinstance(arrays, Unreadable):
            return items[n:]
        item.give_up(arrays.reason)
    return []


def _table(items: list[Item], names: list[str]) -> "pd.DataFrame":
    import pandas as pd

    rows = [{"image": item.name} | {name: item.scores.get(name, float("nan")) for name in names} for item in items]
    return pd.DataFrame(rows, columns=["image", *names])
