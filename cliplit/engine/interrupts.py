"""Ctrl-C and SIGTERM in a training: the iteration at work is finished and saved first; a second one ends it at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2
NOTE = b"\nending after this iteration; once more: at once\n"


class Interrupts:
    """Whether the process was asked to end. It does at once, by KeyboardInterrupt, but not while `postponing`.

    It is remembered, too: Python drops a KeyboardInterrupt in a callback of the garbage collector, and libraries in C++
    or Rust make other errors of it, of a damaged file say.
    """

    postponing = False
    pending = False

    @contextmanager
    def postponed(self) -> Iterator[None]:
        """Signals wait for the end of the block. Raises KeyboardInterrupt if asked to end, in it or before."""
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
        """A signal came."""
        again = self.pending
        self.pending = True
        if again or not self.postponing:
            raise KeyboardInterrupt
        os.write(STDERR, NOTE)  # print may be at work, and is not to be entered twice


@contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Signals as above within the block, as in one around it; in another thread than the main one nothing changes.

    Raises KeyboardInterrupt if asked to end, whatever error a library made of it.
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
