"""One process, or several of `accelerate launch`: which one writes, how they share a batch, and what is averaged.

    accelerate launch --multi_gpu --num_processes 4 -m cliplit train --profile paper ...    (also without GPUs)

All processes make the same decisions from the same random draws and averaged numbers. Each one computes its share of
every batch, and the first one writes. A single process does not import Accelerate. Importing this does not import torch.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from functools import cache
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from cliplit.errors import CliplitError

if TYPE_CHECKING:
    import torch

PATIENCE = timedelta(hours=6)  # processes wait so long for one another, e.g. while the data are prepared


def count() -> int:
    """Number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is the process that writes."""
    return index() == 0


def index() -> int:
    """Number of this process, from 0."""
    return _state().process_index if count() > 1 else 0


def wait() -> None:
    """Wait until all processes get here."""
    if count() > 1:
        _state().wait_for_everyone()


def share(size: int) -> slice:
    """This process's share of a batch. Raises CliplitError if the batch cannot be split evenly."""
    if size % count():
        raise CliplitError(f"a batch of {size} cannot be split evenly among {count()} processes; use another number")
    return slice(index(), None, count())


def gather(item: Any) -> list[Any]:
    """The items of all processes, in their order. It waits for all: a launcher ends the others with the first."""
    if count() == 1:
        return [item]
    from accelerate.utils import gather_object

    _state()
    return gather_object([item])


def average(values: torch.Tensor) -> torch.Tensor:
    """The mean over the processes, which is the same in all of them."""
    if count() == 1:
        return values
    from accelerate.utils import reduce

    _state()
    return reduce(values, "mean")


def say(line: str) -> None:
    """Print a line on stderr, above any progress bar; only the main process prints."""
    from tqdm import tqdm

    if is_main():
        tqdm.write(line, file=sys.stderr)


def average_gradients(module: torch.nn.Module) -> None:
    """Replace the gradients of a module by their mean over the processes."""
    if count() > 1:
        import torch

        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        averaged = average(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, values in zip(gradients, averaged.split([each.numel() for each in gradients]), strict=True):
            gradient.copy_(values.view_as(gradient))


def own_device() -> torch.device:
    """The device that Accelerate gives this process, one of several."""
    return _state().device


@cache
def _state() -> Any:
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    if state.num_processes != count():
        raise CliplitError(
            f"{count()} processes were started, but Accelerate sees {state.num_processes}; use accelerate launch"
        )
    return state


@contextlib.contextmanager
def workers(count: int, start: str, begin: Callable[..., None], *given: Any) -> Iterator[ProcessPoolExecutor]:
    """Worker processes for a block. When it ends, even by an error, tasks that have not begun are dropped.

    Args:
        start: fork or spawn.
        begin: called first in each of them, with `given`.
    """
    tracker: Any = resource_tracker._resource_tracker  # type: ignore[attr-defined]  # no public way to stop it
    mine = tracker._fd is None
    pool = ProcessPoolExecutor(count, multiprocessing.get_context(start), begin, given)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        if mine:  # `spawn` leaves it running; it ignores signals, and a Jupyter kernel then takes half a minute to end
            tracker._stop()
