"""How long a part of the training runs, and which of its weights are kept. Nothing here computes or writes.

`Part.after` alone decides what follows an iteration, from the position in the part and from its log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cliplit.errors import CliplitError
from cliplit.settings import INFINITE

Log = Sequence[Mapping[str, float]]  # a row per iteration: loss and its terms


@dataclass(frozen=True)
class Position:
    """The position in a part."""

    done: int = 0  # iterations
    planned: int = 0
    started: int = 0  # iteration of the last restart
    starts: int = 0  # restarts so far

    @property
    def last(self) -> bool:
        """Whether the next iteration is the last one planned."""
        return self.done + 1 >= self.planned


@dataclass(frozen=True)
class Part:
    """A part of the alternation: the name of its stage, how long it runs, and which weights it keeps."""

    name: str
    iterations: int
    extend_above: float = INFINITE  # it is extended while its last loss is higher than this,
    extend_by: int = 0  # by this many iterations,
    max_extensions: int = 0  # at most this many times
    average: int = 1  # iterations over which the guard and the search for the best weights take means
    guard_psnr: float = -INFINITE  # it restarts with another seed if the mean of its column `psnr` is lower than this
    guard_after: int = 0  # the guard waits for this many iterations; a restart adds as many
    guard_attempts: int = 0  # restarts, at most
    look_every: int = 0  # iterations between checks for the best weights (lowest mean loss); 0: the last are kept
    max_gradient_norm: float = INFINITE  # longer gradients are scaled down to it
    averaging: float = 0.0  # decay of an exponential average of the weights, which is kept in their place; 0: none
    trained: int = 0  # iterations of the earlier parts; the average of the weights continues from them

    def after(self, at: Position, log: Log) -> Position:
        """The position after the iteration whose row is the last one of the log.

        Raises CliplitError if the guard gives up.
        """
        then = replace(at, done=at.done + 1)
        guarded = self.guard_psnr > -INFINITE and at.done - at.started > self.guard_after
        if guarded and mean(log, "psnr", self.average) < self.guard_psnr:
            if at.starts == self.guard_attempts:
                low = f"a mean psnr below {self.guard_psnr:g}"
                raise CliplitError(f"{self.name}: {at.starts + 1} seeds in a row ended with {low}; try another seed")
            return replace(then, planned=at.planned + self.guard_after, started=then.done, starts=at.starts + 1)
        most = self.iterations + self.extend_by * self.max_extensions
        if at.last and log[-1]["loss"] > self.extend_above and at.planned < most:
            return replace(then, planned=at.planned + self.extend_by)
        return then

    def looks(self, at: Position, log: Log) -> bool:
        """Whether the weights after this iteration may be the best ones."""
        enough = len(log) >= min(self.average, at.planned)
        return self.look_every > 0 and enough and ((at.done + 1) % self.look_every == 0 or at.last)


def mean(log: Log, term: str, count: int) -> float:
    """Mean of a term over the last `count` iterations."""
    values = [row[term] for row in log[-count:]]
    return sum(values) / len(values)
