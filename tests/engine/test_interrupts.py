"""Ctrl-C in a loop: the iteration at work is finished and saved, a second one ends it at once, signals are given back."""

import contextlib
import os
import signal
import threading
from collections.abc import Mapping, Sequence

import pytest
import torch

from cliplit.engine.interrupts import Interrupts, interrupts
from cliplit.engine.loop import Loop
from cliplit.engine.parts import Part
from cliplit.files.tensors import load_tensors

ITERATIONS = 5
NONE: Mapping[int, Sequence[int]] = {}


def new_loop(folder) -> Loop:
    torch.manual_seed(0)
    module = torch.nn.Linear(2, 1)
    return Loop(folder, Part("warmup", ITERATIONS), module, torch.optim.Adam(module.parameters()))


def train(loop: Loop, asked: Interrupts, signals: Mapping[int, Sequence[int]] = NONE) -> dict[str, torch.Tensor]:
    """All iterations; within some of them signals come. What was learned."""
    for iteration in loop.until(asked):
        images = torch.rand(3, 2)  # of PyTorch's generator, which is part of the progress
        for number in signals.get(iteration, ()):
            os.kill(os.getpid(), number)
        loop.step(loop.module(images).square().mean())
    return loop.finish()


@pytest.fixture
def expected(tmp_path):
    """What is learned without interruption."""
    return train(new_loop(tmp_path / "whole"), Interrupts())


@pytest.mark.parametrize("iteration", range(ITERATIONS))
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_loop_has_saved_its_iteration_and_goes_on_to_the_same_weights(
    tmp_path, expected, iteration, number
):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    loop = new_loop(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), interrupts() as asked:
        train(loop, asked, {iteration: [number]})
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    assert load_tensors(tmp_path / "run" / "progress.pt")["at"]["done"] == iteration + 1
    with interrupts() as asked:
        learned = train(new_loop(tmp_path / "run"), asked)
    assert all(torch.equal(learned[name], value) for name, value in expected.items())


def test_a_second_one_ends_at_once(tmp_path):
    loop = new_loop(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt), interrupts() as asked:
        train(loop, asked, {2: [signal.SIGINT, signal.SIGINT]})
    assert loop.at.done == 2 and not (tmp_path / "run" / "progress.pt").exists()


def test_outside_a_loop_it_ends_at_once_and_errors_give_the_signals_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the signal did not end it")
    with pytest.raises(ZeroDivisionError) as error, interrupts() as asked:
        for _ in new_loop(tmp_path / "run").until(asked):
            raise ZeroDivisionError
    assert error.value and signal.getsignal(signal.SIGINT) is before  # though the traceback keeps the loop alive


def test_ignored_signals_stay_ignored_and_other_threads_change_nothing():
    handlers = []

    def look():
        with interrupts():
            handlers.append(signal.getsignal(signal.SIGINT))

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a shell's background job
    try:
        look()
    finally:
        signal.signal(signal.SIGINT, before)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert handlers == [signal.SIG_IGN, before]


def test_what_a_library_makes_of_it_does_not_count(tmp_path):
    """safetensors says "damaged" of a file that it was reading; the progress is then no reason to start anew."""
    with pytest.raises(KeyboardInterrupt), interrupts():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise RuntimeError("a damaged file") from None
    with pytest.raises(KeyboardInterrupt), interrupts() as asked:
        loop = new_loop(tmp_path / "run")
        with contextlib.suppress(KeyboardInterrupt):  # swallowed
            os.kill(os.getpid(), signal.SIGINT)
        train(loop, asked)
    assert loop.at.done == 0 and not (tmp_path / "run" / "progress.pt").exists()


def test_a_block_within_another_knows_what_was_asked_before(tmp_path):
    with interrupts() as outer, interrupts() as inner:
        assert inner is outer
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts():
        with contextlib.suppress(KeyboardInterrupt):  # swallowed
            os.kill(os.getpid(), signal.SIGINT)
        reached.append("before")
        with interrupts():
            reached.append("within")
    assert reached == ["before"]
