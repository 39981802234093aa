"""Images on their way to their scores: read, and measured one by one, by several processes, or in batches."""

import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliplit.engine.workers import workers
from cliplit.errors import CliplitError, one_line
from cliplit.files.atomic import sha256
from cliplit.files.images import MAX_PIXELS, decode, image_size
from cliplit.scoring.metrics import Meter, sensible

if TYPE_CHECKING:
    import torch
    from numpy import ndarray
    from torch import Tensor

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
    arrays: "list[ndarray] | None" = None  # read already


def look_at(item: Item) -> str:
    """Fill in the size, from the header, and the digests; each file is opened once. Returns how sizes differ, if so."""
    try:
        item.size, digest = _read(item.path, _look, item.max_pixels)
        size, other = _read(item.reference, _look, item.max_pixels) if item.reference else (item.size, None)
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
    return image_size(path, max_pixels), sha256(path)


def read(item: Item) -> "list[ndarray] | str":
    """Arrays (H, W, 3) of an image and its reference, if it has one; or why one cannot be read, with its name."""
    if item.arrays:
        arrays, item.arrays = item.arrays, None
        return arrays
    try:
        return [_read(file, decode, item.max_pixels) for file in (item.path, item.reference) if file]
    except CliplitError as error:
        return str(error)


def _read(file: Path, how: Callable[..., Any], max_pixels: int) -> Any:
    try:
        return how(file, max_pixels)
    except CliplitError:
        raise
    except Exception as error:  # libraries raise every kind
        raise CliplitError(f"{file}: cannot be read ({type(error).__name__}: {one_line(error)})") from None


def one_by_one(meter: Meter, items: list[Item]) -> Iterator[tuple[Item, Outcome]]:
    """Images on the CPU by one thread, as in `by_processes`: scores must not depend on the number of cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for item in items:
            yield item, measured(meter, [item], [read(item)], "cpu")[0]
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
    return measured(_meter, [item], [read(item)], "cpu")[0]


def by_batches(meter: Meter, batches: list[list[Item]], place: "torch.device | str") -> Iterator[tuple[Item, Outcome]]:
    """Images of the same size and with the same pending metrics together; the next ones are read meanwhile."""
    with ThreadPoolExecutor(READERS) as pool:
        ahead: list[list[Future[list[ndarray] | str]]] = []
        for n, batch in enumerate(batches):
            while len(ahead) < min(READERS, len(batches) - n):
                ahead.append([pool.submit(read, item) for item in batches[n + len(ahead)]])
            arrays = [job.result() for job in ahead.pop(0)]
            yield from zip(batch, measured(meter, batch, arrays, place), strict=True)


def measured(
    meter: Meter, batch: list[Item], arrays: "list[list[ndarray] | str]", place: "torch.device | str"
) -> list[Outcome]:
    """Pending scores of images of one size, or the reasons why there are none. What fails together is done one by one.

    Args:
        arrays: of every image as `read` returns them.
    """
    import torch

    from cliplit.files.tensors import to_tensor

    if len(batch) == 1 and isinstance(arrays[0], str):
        return [arrays[0]]
    metrics = [metric for metric in batch[0].pending if metric not in meter.failed]
    try:
        sides = [torch.stack([to_tensor(array) for array in side]).to(place) for side in zip(*arrays, strict=True)]
    except Exception as error:  # one is not read, no memory, or pixels that are not as the header says
        if len(batch) == 1:
            return [dict.fromkeys(metrics, f"cannot be measured ({one_line(error)})")]
        return [measured(meter, [item], [own], place)[0] for item, own in zip(batch, arrays, strict=True)]
    columns = [_scores(meter, metric, sides) for metric in metrics]
    return [{metric: column[n] for metric, column in zip(metrics, columns, strict=True)} for n in range(len(batch))]


def _scores(meter: Meter, metric: str, sides: "list[Tensor]") -> list[float | str]:
    """Scores of a batch, or the reasons why there are none; what a metric refuses together, it is asked one by one."""
    count = len(sides[0])
    try:
        return [sensible(metric, score) for score in meter.measure(metric, *sides)]
    except CliplitError as error:
        if count == 1:
            return [str(error)]
    return [_scores(meter, metric, [side[n : n + 1] for side in sides])[0] for n in range(count)]


def batches(items: list[Item]) -> list[list[Item]]:
    alike: dict[Any, list[Item]] = {}
    for item in items:
        alike.setdefault((item.size, item.reference is None, tuple(item.pending)), []).append(item)
    batches = []
    for (size, *_), group in alike.items():
        count = max(1, BATCH_PIXELS // (size[0] * size[1]))
        batches += [group[start : start + count] for start in range(0, len(group), count)]
    return batches
