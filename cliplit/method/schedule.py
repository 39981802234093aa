"""The schedule of the released code: order and settings of the stages. Nothing here computes or writes.

    prompts0, warmup -> enhancer0 -> prompts1 -> enhancer1 -> prompts2 -> enhancer2 -> ...

`alternation` defines this order. The stages of a run (run.py) and the training (training.py) follow it.
"""

from dataclasses import dataclass

from cliplit.engine.parts import Part
from cliplit.settings import Settings


@dataclass(frozen=True)
class Step:
    """A step of the alternation: what is learned, in which round, and from which stages."""

    learns: str  # prompts, warmup or enhancer
    round: int
    needs: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of its stage."""
        return self.learns if self.learns == "warmup" else f"{self.learns}{self.round}"


def alternation(rounds: int, refined: bool = True) -> list[Step]:
    """All steps in order: initial prompts and network, then rounds of prompt refinement and tuning (paper, section 3).

    Without refinement, all rounds use prompts0.
    """
    steps = [
        Step("prompts", 0, ("data",)),
        Step("warmup", 0, ("data",)),
        Step("enhancer", 0, ("prompts0", "warmup")),
    ]
    for k in range(1, rounds + 1):
        guide = f"prompts{k}" if refined else "prompts0"
        if refined:
            ranked = [f"enhancer{j}" for j in ranked_rounds(k)]
            steps.append(Step("prompts", k, (f"prompts{k - 1}", *ranked)))
        steps.append(Step("enhancer", k, (guide, f"enhancer{k - 1}")))
    return steps


def initial_prompts(settings: Settings) -> Part:
    """Prompt initialization."""
    return Part("prompts0", settings.prompts.iterations)


def warm_up(settings: Settings) -> Part:
    """Warm-up towards the identity, with the guard that restarts it."""
    options = settings.enhancement
    return Part(
        "warmup",
        options.warmup_iterations,
        average=options.average,
        guard_psnr=options.guard_psnr,
        guard_after=options.guard_after,
        guard_attempts=options.guard_attempts,
        max_gradient_norm=options.max_gradient_norm,
    )


def network(settings: Settings, k: int) -> Part:
    """The enhancement network: initial training for k = 0, tuning in round k after that."""
    options = settings.enhancement
    rounds = settings.refinement
    return Part(
        f"enhancer{k}",
        rounds.tuning_iterations if k else options.iterations,
        extend_above=options.extend_above,
        extend_by=options.extend_by,
        max_extensions=rounds.max_extensions,
        average=options.average,
        look_every=options.look_every,
        max_gradient_norm=options.max_gradient_norm,
        averaging=options.averaging,
        trained=options.iterations + (k - 1) * rounds.tuning_iterations if k else 0,
    )


def refined_prompts(settings: Settings, k: int) -> Part:
    """Prompt refinement of round k."""
    options = settings.refinement
    more = (options.extend_above, options.extend_by, options.max_extensions)
    return Part(f"prompts{k}", options.iterations, *more)


def ranked_rounds(k: int) -> list[int]:
    """The rounds whose results are ranked in round k, older first.

    The released code keeps the newest two results and ranks them. In round 1 there is only one.
    """
    return list(range(max(0, k - 2), k))


def margins(settings: Settings, k: int) -> tuple[float, float]:
    """Far and near margin of the ranking in round k. The near one is wider in round 1, which ranks only one result."""
    options = settings.refinement
    return options.far_margin, options.near_margin_first if k == 1 else options.near_margin
