"""How long a part of a training goes on, and which of its weights are kept. Nothing here computes or writes.

A part takes its iterations, and more of them while its loss is too high (`Extension`). It starts anew with other
weights while one of its terms is too low (`Guard`). `Part.after` is the one place that decides what comes after an iteration,
from where the part stands and from its log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cliplit.errors import CliplitError
from cliplit.settings import INFINITE

Log = Sequence[Mapping[str, float]]  # a row per iteration: loss and its terms


@dataclass(frozen=True)
class Position:
    """Where a part stands."""

    done: int = 0  # iterations
    planned: int = 0
    started: int = 0  # iteration of the last new start
    starts: int = 0  # new starts so far

    @property
    def last(self) -> bool:
        """Whether the iteration to come is the last one planned."""
        return self.done + 1 >= self.planned


@dataclass(frozen=True)
class Extension:
    """A part goes on while its last loss is above a threshold, a bounded number of times."""

    above: float = INFINITE
    by: int = 0
    most: int = 0


@dataclass(frozen=True)
class Guard:
    """A part starts anew with another seed if the mean of a term over the last iterations is low after a while."""

    term: str  # a column of the log
    least: float
    average: int  # iterations
    after: int  # iterations since the start; a new start adds as many
    most: int  # new starts


@dataclass(frozen=True)
class Best:
    """The best weights of a part have the lowest mean loss of the last iterations, looked at now and then."""

    average: int
    every: int

    def looks(self, at: Position, log: Log) -> bool:
        enough = len(log) >= min(self.average, at.planned)
        return enough and ((at.done + 1) % self.every == 0 or at.last)


@dataclass(frozen=True)
class Part:
    """A part of the alternation: what its stage is called and how long it goes on."""

    name: str
    iterations: int
    extension: Extension = Extension()
    guard: Guard | None = None
    best: Best | None = None  # None: the last weights are kept
    max_gradient_norm: float = INFINITE  # longer gradients are scaled down to it
    averaging: float = 0.0  # decay of an exponential average of the weights, which is kept in their place; 0: none
    trained: int = 0  # iterations of the parts before, from which the average of the weights goes on

    def after(self, at: Position, log: Log) -> Position:
        """Where the part stands after the iteration whose row is the last one of its log.

        Raises:
            CliplitError: the guard gives up.
        """
        then = replace(at, done=at.done + 1)
        guard = self.guard
        if guard and at.done - at.started > guard.after and mean(log, guard.term, guard.average) < guard.least:
            if at.starts == guard.most:
                low = f"a mean {guard.term} below {guard.least:g}"
                raise CliplitError(f"{self.name}: {at.starts + 1} seeds in a row ended with {low}; try another seed")
            return replace(then, planned=at.planned + guard.after, started=then.done, starts=at.starts + 1)
        more = self.extension
        if at.last and log[-1]["loss"] > more.above and at.planned < self.iterations + more.by * more.most:
            return replace(then, planned=at.planned + more.by)
        return then


def mean(log: Log, term: str, count: int) -> float:
    """Mean of a term over the last `count` iterations."""
    values = [row[term] for row in log[-count:]]
    return sum(values) / len(values)
