"""Images on their way to their scores: looked at, read, and measured in this process or by several."""

import hashlib
import signal
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliplit.engine.workers import workers
from cliplit.errors import CliplitError, one_line
from cliplit.files.images import MAX_PIXELS, decode, errors_named, size_in
from cliplit.scoring.metrics import Meter, sensible

if TYPE_CHECKING:
    import torch
    from numpy import ndarray

BATCH_PIXELS = 1 << 24  # on accelerators; on a CPU batches gain nothing, several processes do
READERS = 4  # threads that decode ahead
START = "fork" if sys.platform == "linux" else "spawn"  # of worker processes

Outcome = dict[str, float | str] | str  # scores, or reasons why there are none, by metric; or why it cannot be read


@dataclass
class Item:
    """An image on its way to its scores."""

    name: str
    path: Path
    reference: Path | None
    max_pixels: int = MAX_PIXELS
    size: tuple[int, int] = (0, 0)
    digests: tuple[str, str | None] = ("", None)
    failure: str = ""  # why it cannot be read
    pending: dict[str, str] = field(default_factory=dict)  # metric: its key in the cache
    outcomes: dict[str, float | str] = field(default_factory=dict)  # scores, or reasons why there are none


def look_at(item: Item) -> str:
    """Fill in the size, from the header, and the digests; each file is opened once. Returns how sizes differ, if so."""
    try:
        item.size, digest = _look(item.path, item.max_pixels)
        size, other = _look(item.reference, item.max_pixels) if item.reference else (item.size, None)
    except CliplitError as error:
        item.failure = str(error)
        return ""
    item.digests = digest, other
    if item.reference is None or size == item.size:
        return ""
    shown = " and ".join(f"{width}x{height}" for width, height in (item.size, size))
    line = f"{item.name} and its reference {item.reference.name} differ in size ({shown})"
    item.reference, item.digests = None, (digest, None)
    return line


def _look(path: Path, max_pixels: int) -> tuple[tuple[int, int], str]:
    """Width and height of an image, and the SHA-256 of its file."""
    with errors_named(path), open(path, "rb") as file:
        size = size_in(file, max_pixels)
        file.seek(0)
        return size, hashlib.sha256(file.read()).hexdigest()


def read(item: Item) -> "list[ndarray] | str":
    """Arrays (H, W, 3) of an image and its reference, if it has one; or why one cannot be read, with its name."""
    try:
        return [decode(file, item.max_pixels) for file in (item.path, item.reference) if file]
    except CliplitError as error:
        return str(error)


def batches(items: list[Item], most: int = BATCH_PIXELS) -> list[list[Item]]:
    """Images of the same size and with the same pending metrics together, up to so many pixels; 1: each alone."""
    alike: dict[Any, list[Item]] = {}
    for item in items:
        alike.setdefault((item.size, item.reference is None, tuple(item.pending)), []).append(item)
    batches = []
    for ((width, height), *_), group in alike.items():
        count = max(1, most // (width * height))
        batches += [group[start : start + count] for start in range(0, len(group), count)]
    return batches


def by_batches(meter: Meter, batches: list[list[Item]], place: "torch.device | str") -> Iterator[tuple[Item, Outcome]]:
    """Outcomes batch by batch, in this process, while the next ones are read.

    On a CPU by one thread, as in `by_processes`: scores must not depend on the number of cores.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1 if torch.device(place).type == "cpu" else threads)
    try:
        with ThreadPoolExecutor(READERS) as pool:
            ahead: list[Iterator[list[ndarray] | str]] = []
            for n, batch in enumerate(batches):
                ahead += [pool.map(read, later) for later in batches[n + len(ahead) : n + READERS]]
                outcomes = measured(meter, batch[0].pending, list(ahead.pop(0)), place)
                yield from zip(batch, outcomes, strict=True)
    finally:
        torch.set_num_threads(threads)


def by_processes(meter: Meter, items: list[Item], count: int) -> Iterator[tuple[Item, Outcome]]:
    """Several images at a time, each by one thread."""
    try:
        with workers(count, START, _become_worker, meter) as pool:
            yield from zip(items, pool.map(_work, items), strict=True)
    except BrokenProcessPool:
        reason = "a process that scores images was ended from outside, perhaps for memory; use --jobs 1"
        raise CliplitError(reason) from None


_meter: Meter  # of a worker process, by `_become_worker`: sent once, not with every image


def _become_worker(meter: Meter) -> None:
    import torch

    global _meter
    _meter = meter
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the pool
    torch.set_num_threads(1)


def _work(item: Item) -> Outcome:
    return measured(_meter, item.pending, [read(item)], "cpu")[0]


def measured(
    meter: Meter, names: Iterable[str], arrays: "list[list[ndarray] | str]", place: "torch.device | str"
) -> list[Outcome]:
    """Outcomes of images of one size. What fails together is done again image by image, then metric by metric.

    Args:
        arrays: of every image as `read` returns them.
    """
    import torch

    from cliplit.files.tensors import to_tensor

    if len(arrays) == 1 and isinstance(arrays[0], str):
        return [arrays[0]]
    names = [name for name in names if name not in meter.failed]
    try:
        sides = [torch.stack([to_tensor(array) for array in side]).to(place) for side in zip(*arrays, strict=True)]
        columns = [[sensible(name, score) for score in meter.measure(name, *sides)] for name in names]
    except Exception as error:  # one is not read, no memory, pixels that are not as the header says, or a refusal
        if len(arrays) > 1:
            return [measured(meter, names, [own], place)[0] for own in arrays]
        if len(names) > 1:
            return [{name: measured(meter, [name], arrays, place)[0][name] for name in names}]  # type: ignore[index]
        reason = str(error) if isinstance(error, CliplitError) else f"cannot be measured ({one_line(error)})"
        return [dict.fromkeys(names, reason)]
    return [{name: column[n] for name, column in zip(names, columns, strict=True)} for n in range(len(arrays))]
