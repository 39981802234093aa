"""Scores of image files by any metric: read once, shared by all metrics, kept for the next time."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from cliplit.errors import CliplitError, printable
from cliplit.files.atomic import user_cache
from cliplit.files.folders import Found, Pairs, find_images, pair
from cliplit.files.images import MAX_PIXELS
from cliplit.scoring import measuring
from cliplit.scoring.cache import ScoreCache, key
from cliplit.scoring.measuring import BATCH_PIXELS, READERS, Item
from cliplit.scoring.metrics import Conventions, Meter, catalogue, choose, conventions_of, sensible
from cliplit.scoring.weights import left_out, why_unavailable
from cliplit.settings import setting

if TYPE_CHECKING:
    import pandas as pd

MOST_JOBS = 8  # processes on a CPU
IMAGES_PER_JOB = 4  # no process for fewer


@dataclass(frozen=True)
class Scoring:
    """How files are scored; all but the last two are options of `cliplit score`."""

    recursive: bool = setting(False, "cliplit", about="also images in folders below")
    allow_missing: bool = setting(
        False, "cliplit", about="go on where references are missing or differ in size: such images get NaN"
    )
    device: str = setting("auto", "cliplit", about="the device: auto, cpu, cuda, cuda:1 ...")
    jobs: int = setting(0, "cliplit", "images", "at a time on a CPU, each by one thread; 0: one per core, up to 8")
    max_pixels: int = setting(0, "cliplit", "pixels", "images of more are refused; 0: 268 million")
    cache: Path | str | None = "default"  # keeps scores by content; None: nothing does; by default in the user's cache
    progress: bool = True  # a progress bar, on a terminal


@dataclass(frozen=True)
class Scores:
    """Scores of images and everything that is to be said beside them.

    Attributes:
        table: one row per readable image: `image`, then one column per metric that could be computed; NaN where an
            image has no reference or a metric gives no sensible score.
        unavailable: metrics that cannot be computed on this machine, with the reason.
        problems: one line for everything that cannot be read, has no partner or one of another size, or has no score.
        duplicates: images left out as copies of others.
        computed: scores that were computed now; all others were known.
        found: the files that were asked for, and what lay beside them.
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
        reference: folder with a reference of the same stem and size for every image; wanted by metrics that compare.
        conventions: a preset (cliplit, clip-lit, rave) or conventions of your own.
        options: fields of `Scoring`.
    Raises:
        CliplitError: no such path, no readable images, unknown metric or preset, missing partners (lists them), no metric
            that can be computed on this machine, a cache that fails.
    """
    return score_files(paths, metrics, reference, conventions, Scoring(**options)).table


def score_files(
    paths: str | Path | Sequence[str | Path],
    metrics: str | Iterable[str] = "nr",
    reference: str | Path | None = None,
    conventions: str | Conventions = "cliplit",
    how: Scoring = Scoring(),
) -> Scores:
    """As `score`, with everything that is to be said beside the table."""
    agreed = conventions_of(conventions)
    wanted = choose(metrics)
    found = find_images([paths] if isinstance(paths, (str, Path)) else paths, how.recursive)
    comparing = [name for name in wanted if catalogue()[name].compares]
    if comparing and not reference and not how.allow_missing:
        raise CliplitError(
            f"{', '.join(comparing)}: to be compared with references; give their folder with --reference"
        )
    pairs = pair(found, reference, how.recursive) if reference else Pairs({})
    files = {name: file for name, file in found.images.items() if name not in pairs.duplicates}
    items = [Item(name, file, pairs.references.get(name), how.max_pixels or MAX_PIXELS) for name, file in files.items()]
    bar = partial(tqdm, leave=False, disable=None if how.progress else True)  # None: a bar on a terminal only
    with ThreadPoolExecutor(READERS) as pool:
        unpaired = [*pairs.problems, *filter(None, bar(pool.map(measuring.look_at, items), "reading", len(items)))]
    if unpaired and not how.allow_missing:
        raise CliplitError(f"images and references do not match (or --allow-missing): {'; '.join(unpaired)}")

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
    while pending and isinstance(reason := measuring.read(pending[0]), str):
        pending.pop(0).failure = reason  # if no image can be read, no metric has to be loaded
    if pending:
        meter = Meter(dict.fromkeys(name for item in pending for name in item.pending), agreed, place)
        unavailable |= meter.failed
        processes = how.jobs or min(os.cpu_count() or 1, MOST_JOBS, len(pending) // IMAGES_PER_JOB)
        if place.type == "cpu" and processes > 1:
            outcomes = measuring.by_processes(meter, pending, processes)
        else:
            batches = measuring.batches(pending, 1 if place.type == "cpu" else BATCH_PIXELS)
            outcomes = measuring.by_batches(meter, batches, place)
        for item, outcome in bar(outcomes, "scoring", len(pending), unit="image"):
            if isinstance(outcome, str):
                item.failure = outcome
            else:
                known.put({item.pending[metric]: score for metric, score in outcome.items()})
                item.outcomes |= outcome
    readable = [item for item in items if not item.failure]
    if not readable:
        raise CliplitError(f"none of {len(items)} images can be read; the first: {items[0].failure}")
    scores = [{m: one for m, one in item.outcomes.items() if not isinstance(one, str)} for item in readable]
    columns = ["image", *(name for name in wanted if name not in unavailable)]
    table = pd.DataFrame(
        [{"image": item.name} | own for item, own in zip(readable, scores, strict=True)], columns=columns
    )
    problems = [*unpaired, *(f"{path}: {reason}" for path, reason in found.unread.items())]
    for item in items:
        problems += [f"{item.path}: {outcome}" for outcome in item.outcomes.values() if isinstance(outcome, str)]
        problems += [item.failure] if item.failure else []
    computed = sum(name in own for item, own in zip(readable, scores, strict=True) for name in item.pending)
    return Scores(table, unavailable, [*map(printable, problems)], pairs.duplicates, computed, found)
