"""Ctrl-C and SIGTERM in a training: the iteration at work is finished and saved first; a second one ends it at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STDERR = 2
NOTE = b"\nending after this iteration; once more: at once\n"


class Interrupts:
    """Whether the process was asked to end, while `postponing`; at other times it ends at once, by KeyboardInterrupt."""

    def __init__(self) -> None:
        self.postponing = False
        self.pending = False
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Take the signals over, but those that are ignored: a shell's background jobs ignore Ctrl-C."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._before[number] = signal.signal(number, self._handle)

    def restore(self) -> None:
        """Give the signals back to who had them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @contextmanager
    def postponed(self) -> Iterator[None]:
        """Signals wait for the end of the block."""
        self.postponing = True
        try:
            yield
        finally:
            self.postponing = False
        if self.pending:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: object) -> None:
        self.restore()  # so that a second one ends at once
        if not self.postponing:
            raise KeyboardInterrupt
        self.pending = True
        os.write(STDERR, NOTE)  # print may be at work, and is not to be entered twice


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Signals as above within the block; in another thread than the main one nothing changes."""
    taken = Interrupts()
    if threading.current_thread() is threading.main_thread():
        taken.install()
    try:
        yield taken
    finally:
        taken.restore()
