"""Ctrl-C and SIGTERM during training: the current iteration is finished and saved first. A second signal ends it at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2
NOTE = b"\nstopping after this iteration; interrupt again to stop at once\n"


class Interrupts:
    """Whether the process was asked to end. It then ends at once, by KeyboardInterrupt, except while `postponing`.

    The request is also remembered: Python drops a KeyboardInterrupt in a callback of the garbage collector, and libraries
    in C++ or Rust turn it into other errors, such as that of a damaged file.
    """

    postponing = False
    pending = False

    @contextmanager
    def postponed(self) -> Iterator[None]:
        """Postpone signals to the end of the block. Raises KeyboardInterrupt if asked to end, before or during it."""
        self.look()
        self.postponing = True
        try:
            yield
        finally:
            self.postponing = False
        self.look()

    def look(self) -> None:
        """Raise KeyboardInterrupt if asked to end."""
        if self.pending:
            raise KeyboardInterrupt

    def handle(self, number: int, frame: object) -> None:
        """Handle a signal."""
        again = self.pending
        self.pending = True
        if again or not self.postponing:
            raise KeyboardInterrupt
        os.write(STDERR, NOTE)  # print may be running, and must not be entered twice


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Handle signals as above within the block. Nested blocks share one handler, and other threads than the main one none.

    Raises KeyboardInterrupt if asked to end, even if a library turned that into another error.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    owners = [getattr(handler, "__self__", None) for handler in before.values()]
    around = next((owner for owner in owners if isinstance(owner, Interrupts)), None)
    taken = around or Interrupts()
    mine = around is None and threading.current_thread() is threading.main_thread()
    for number, handler in before.items():
        if mine and handler not in (signal.SIG_IGN, None):  # a shell's background jobs ignore Ctrl-C
            signal.signal(number, taken.handle)
    try:
        taken.look()
        yield taken
    except Exception:
        taken.look()
        raise
    finally:
        for number, handler in before.items():
            if mine and handler is not None:
                signal.signal(number, handler)
