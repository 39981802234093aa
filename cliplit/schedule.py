"""The paper's alternation as the released code schedules it. Nothing here computes or writes.

    prompts0, warmup -> enhancer0 -> prompts1 -> enhancer1 -> prompts2 -> enhancer2 -> ...

Each of these is a `Part`. A part takes its iterations; then more of them while its loss is too high (`Extension`); the
warm-up starts anew while its results are nothing like the inputs (`Guard`). `Part.after` is the one place that
decides what comes after an iteration, from where the part stands and from its log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cliplit.errors import CliplitError
from cliplit.settings import INFINITE, Settings

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
    """The warm-up starts anew with another seed if the mean PSNR of the last iterations is low after a while."""

    psnr: float  # dB
    average: int  # iterations
    after: int  # iterations since the start; so many are added at a new one
    most: int  # new starts

    def objects(self, at: Position, log: Log) -> bool:
        return at.done - at.started > self.after and mean(log, "psnr", self.average) < self.psnr


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

    def begin(self) -> Position:
        return Position(planned=self.iterations)

    def after(self, at: Position, log: Log) -> Position:
        """Where the part stands after the iteration whose row is the last one of its log.

        Raises:
            CliplitError: the guard gives up.
        """
        then = replace(at, done=at.done + 1)
        if self.guard and self.guard.objects(at, log):
            if at.starts == self.guard.most:
                raise CliplitError(
                    f"{self.name}: {at.starts + 1} seeds in a row stayed below {self.guard.psnr} dB PSNR"
                )
            return replace(then, planned=at.planned + self.guard.after, started=then.done, starts=at.starts + 1)
        more = self.extension
        if at.last and log[-1]["loss"] > more.above and at.planned < self.iterations + more.by * more.most:
            return replace(then, planned=at.planned + more.by)
        return then


def initial_prompts(settings: Settings) -> Part:
    """Prompt initialization."""
    return Part("prompts0", settings.prompts.iterations)


def warm_up(settings: Settings) -> Part:
    """Warm-up towards the identity, guarded."""
    options = settings.enhancement
    guard = Guard(options.guard_psnr, options.average, options.guard_after, options.guard_attempts)
    return Part("warmup", options.warmup_iterations, guard=guard)


def network(settings: Settings, k: int) -> Part:
    """The enhancement network: initial training for k = 0, tuning in round k after that."""
    options, rounds = settings.enhancement, settings.refinement
    more = Extension(options.extend_above, options.extend_by, rounds.max_extensions)
    iterations = rounds.tuning_iterations if k else options.iterations
    return Part(f"enhancer{k}", iterations, more, best=Best(options.average, options.look_every))


def refined_prompts(settings: Settings, k: int) -> Part:
    """Prompt refinement of round k."""
    options = settings.refinement
    more = Extension(options.extend_above, options.extend_by, options.max_extensions)
    return Part(f"prompts{k}", options.iterations, more)


def alternation(settings: Settings) -> list[Part]:
    """All parts in order: first pair and network, then rounds of prompt refinement and tuning."""
    parts = [initial_prompts(settings), warm_up(settings), network(settings, 0)]
    for k in range(1, settings.refinement.rounds + 1):
        parts += [refined_prompts(settings, k), network(settings, k)]
    return parts


def ranked_rounds(k: int) -> list[int]:
    """The rounds whose results are ranked in round k, older first.

    The released code has two slots for results, written in turn, so that it ranks the newest two (one in round 1).
    """
    return list(range(max(0, k - 2), k))


def margins(settings: Settings, k: int) -> tuple[float, float]:
    """Far and near margin of the ranking in round k: the near one is wider while there is one result only."""
    options = settings.refinement
    return options.far_margin, options.near_margin_first if k == 1 else options.near_margin


def mean(log: Log, term: str, count: int) -> float:
    """Mean of a term over the last `count` iterations."""
    values = [row[term] for row in log[-count:]]
    return sum(values) / len(values)
