"""Images on their way to their scores: read, and measured one by one, by several processes, or in batches."""

import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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


@dataclass
class Item:
    """An image on its way to its scores."""

    name: str
    path: Path
    reference: Path | None
    max_pixels: int = MAX_PIXELS
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


class Unreadable(NamedTuple):
    """An image that cannot be read, or whose reference cannot; the reason names the file."""

    reason: str


Outcome = dict[str, float | str] | Unreadable  # scores, or reasons why there are none, by metric


def look_at(item: Item) -> None:
    """Fill in sizes, from the headers, and digests."""
    try:
        sizes = [_read(file, image_size, item.max_pixels) for file in item.files]
        item.size = sizes[0]
        if item.reference and sizes[0] != sizes[1]:
            shown = " and ".join(f"{width}x{height}" for width, height in sizes)
            item.unpaired.append(f"{item.name} and its reference {item.reference.name} differ in size ({shown})")
            item.reference = None
        digests = [_read(file, sha256) for file in item.files]
        item.digests = (digests[0], digests[1] if item.reference else None)
    except CliplitError as error:
        item.give_up(str(error))


def read(item: Item) -> "list[ndarray] | Unreadable":
    """Arrays (H, W, 3) of an image and its reference, if it has one."""
    try:
        return [_read(file, decode, item.max_pixels) for file in item.files]
    except CliplitError as error:
        return Unreadable(str(error))


def _read(file: Path, how: Callable[..., Any], *options: Any) -> Any:
    try:
        return how(file, *options)
    except CliplitError:
        raise
    except Exception as error:  # libraries raise every kind
        raise CliplitError(f"{file}: cannot be read ({type(error).__name__}: {one_line(error)})") from None


def one_by_one(meter: Meter, items: list[Item]) -> Iterator[tuple[Item, Outcome]]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in `by_processes`: scores must not depend on the number of cores
    try:
        for item in items:
            yield item, _outcome(meter, item)
    finally:
        torch.set_num_threads(threads)


def by_processes(meter: Meter, items: list[Item], count: int) -> Iterator[tuple[Item, Outcome]]:
    """Several images at a time, each by one thread."""
    try:
        with workers(count, START, _become_worker, meter) as pool:
            yield from zip(items, pool.map(_work, items), strict=True)
    except BrokenProcessPool:
        raise CliplitError(
            "a process that scores images was ended from outside, perhaps for memory; use --jobs 1"
        ) from None


_meter: Meter  # of a worker process, by `_become_worker`: sent once, not with every image


def _become_worker(meter: Meter) -> None:
    import torch

    global _meter
    _meter = meter
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the pool
    torch.set_num_threads(1)


def _work(item: Item) -> Outcome:
    return _outcome(_meter, item)


def _outcome(meter: Meter, item: Item) -> Outcome:
    """Read and score an image on the CPU."""
    arrays = read(item)
    return arrays if isinstance(arrays, Unreadable) else measured(meter, [item], [arrays], "cpu")[0]


def by_batches(meter: Meter, batches: list[list[Item]], place: "torch.device | str") -> Iterator[tuple[Item, Outcome]]:
    """Images of the same size and with the same pending metrics together; the next ones are read meanwhile."""
    with ThreadPoolExecutor(READERS) as pool:
        ahead: list[list[Future[list[ndarray] | Unreadable]]] = []
        for n, batch in enumerate(batches):
            while len(ahead) < min(READERS, len(batches) - n):
                ahead.append([pool.submit(read, item) for item in batches[n + len(ahead)]])
            good = []
            decoded = []
            for item, job in zip(batch, ahead.pop(0), strict=True):
                arrays = job.result()
                if isinstance(arrays, Unreadable):
                    yield item, arrays
                else:
                    good.append(item)
                    decoded.append(arrays)
            if good:
                yield from zip(good, measured(meter, good, decoded, place), strict=True)


def measured(
    meter: Meter, batch: list[Item], arrays: list[list["ndarray"]], place: "torch.device | str"
) -> list[dict[str, float | str]]:
    """Pending scores, or the reasons why there are none, of images of one size."""
    import torch

    from cliplit.files.tensors import to_tensor

    metrics = [metric for metric in batch[0].pending if metric not in meter.failed]
    try:
        sides = [torch.stack([to_tensor(array) for array in side]).to(place) for side in zip(*arrays, strict=True)]
    except Exception as error:  # no memory, or pixels that are not as the header says
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
