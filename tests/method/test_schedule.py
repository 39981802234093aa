"""The alternation as released: guard, extensions, best by running mean, slots and margins by round."""

from itertools import pairwise

import pytest

from cliplit.engine.parts import Part, Position
from cliplit.errors import CliplitError
from cliplit.method.run import plan
from cliplit.method.schedule import (
    alternation,
    initial_prompts,
    margins,
    network,
    ranked_rounds,
    refined_prompts,
    warm_up,
)
from cliplit.profiles import profile
from cliplit.settings import Settings

PAPER = profile("paper")


def parts(settings: Settings) -> list[Part]:
    """The parts of the alternation in order."""
    return [
        *(initial_prompts(settings), warm_up(settings), network(settings, 0)),
        *(part(settings, k) for k in range(1, settings.refinement.rounds + 1) for part in (refined_prompts, network)),
    ]


def walk(part: Part, rows) -> list[Position]:
    """Positions before each iteration and after the last one; `rows` gives an iteration's row in the log."""
    log, positions = [], [Position(planned=part.iterations)]
    while positions[-1].done < positions[-1].planned:
        log.append(rows(positions[-1]))
        positions.append(part.after(positions[-1], log))
    return positions


def test_the_paper_alternates_pair_and_network():
    names = [step.name for step in alternation(PAPER.refinement.rounds)]
    assert names[:7] == ["prompts0", "warmup", "enhancer0", "prompts1", "enhancer1", "prompts2", "enhancer2"]
    assert [part.iterations for part in parts(PAPER)[:5]] == [8000, 1000, 2100, 1000, 2100]
    assert len(names) == 3 + 2 * 14 and sum(part.iterations for part in parts(PAPER)) >= 50_000


def test_parts_stages_and_steps_are_the_same():
    names = [step.name for step in alternation(PAPER.refinement.rounds)]
    assert names == [part.name for part in parts(PAPER)]
    assert names == [name for name in plan(PAPER) if name not in ("data", "control", "evaluation")]


def test_a_guidance_that_is_not_refined_stays_the_initial_one():
    steps = alternation(2, refined=False)
    assert [step.name for step in steps] == ["prompts0", "warmup", "enhancer0", "enhancer1", "enhancer2"]
    assert steps[-1].needs == ("prompts0", "enhancer1")


def test_a_part_takes_its_iterations_and_no_more_while_its_loss_is_low():
    for part in parts(PAPER)[:5]:
        assert walk(part, lambda at: {"loss": 1.0, "psnr": 40.0})[-1] == Position(part.iterations, part.iterations)


def test_a_high_last_loss_adds_iterations_until_it_falls():
    enhancer, prompts = parts(PAPER)[2:4]
    falls = lambda after: lambda at: {"loss": 89.0 if at.done >= after else 91.0}
    assert walk(enhancer, falls(2100))[-1].done == 2160  # the last of 2,100 is number 2,099
    assert walk(enhancer, falls(2099))[-1].done == 2100
    assert walk(enhancer, falls(2159))[-1].done == 2160
    assert walk(enhancer, falls(2160))[-1].done == 2220
    assert walk(prompts, lambda at: {"loss": 61.0 if at.done < 1150 else 59.0})[-1].done == 1200


def test_extensions_end():
    part = Part("enhancer0", 10, extend_above=0.0, extend_by=3, max_extensions=4)
    assert walk(part, lambda at: {"loss": 1.0})[-1].done == 10 + 3 * 4


def test_the_guard_looks_after_a_hundred_iterations_and_adds_as_many_at_a_new_start():
    low_until = lambda end: lambda at: {"loss": 1.0, "psnr": 5.0 if at.done < end else 30.0}
    positions = walk(warm_up(PAPER), low_until(150))
    started = [at.done for before, at in pairwise(positions) if at.starts > before.starts]
    assert started == [102]  # the iteration more than a hundred after the start is number 101
    assert positions[-1] == Position(done=1100, planned=1100, started=102, starts=1)
    assert walk(warm_up(PAPER), low_until(90))[-1].starts == 0  # the mean of the last 30 has risen by then


def test_the_guard_gives_up():
    part = Part("warmup", 50, average=2, guard_psnr=8.0, guard_after=3, guard_attempts=2)
    with pytest.raises(CliplitError, match="warmup: 3 seeds in a row ended with a mean psnr below 8"):
        walk(part, lambda at: {"loss": 1.0, "psnr": 1.0})


def test_the_best_is_looked_for_every_twenty_iterations_and_at_the_end():
    part = network(PAPER, 0)
    at = lambda done: Position(done, planned=95)
    looked = [done for done in range(95) if part.looks(at(done), [{}] * (done + 1))]
    assert looked == [39, 59, 79, 94]
    assert part.looks(Position(3, planned=4), [{}] * 4)  # shorter than the mean


def test_two_slots_of_results_and_margins_by_round():
    assert [ranked_rounds(k) for k in (1, 2, 3, 4)] == [[0], [0, 1], [1, 2], [2, 3]]
    assert [margins(PAPER, k) for k in (1, 2, 3)] == [(0.9, 0.2), (0.9, 0.1), (0.9, 0.1)]


def test_the_average_of_weights_goes_on_from_round_to_round():
    photos = profile("photos", {"refinement.rounds": 2, "refinement.tuning_iterations": 50})
    before = photos.enhancement.iterations
    assert [network(photos, k).trained for k in range(3)] == [0, before, before + 50]
