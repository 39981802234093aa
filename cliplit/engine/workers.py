"""Worker processes, of which nothing is left when they are done."""

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import resource_tracker
from typing import Any


@contextlib.contextmanager
def workers(count: int, start: str, begin: Callable[..., None], *given: Any) -> Iterator[ProcessPoolExecutor]:
    """Worker processes for a block; what is not begun when it ends, by an error perhaps, is not done.

    Args:
        start: fork or spawn.
        begin: called in each of them first, with what is given.
    """
    tracker: Any = resource_tracker._resource_tracker  # type: ignore[attr-defined]  # there is no public way to end it
    mine = tracker._fd is None
    pool = ProcessPoolExecutor(count, multiprocessing.get_context(start), begin, given)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        if mine:  # `spawn` leaves it behind; it ignores signals, and a Jupyter kernel that ends waits for half a minute
            tracker._stop()
