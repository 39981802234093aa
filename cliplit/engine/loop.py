"""A training loop that logs, keeps a copy of the best weights, and resumes where it stopped."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from cliplit.engine import processes
from cliplit.engine.interrupts import Interrupts
from cliplit.engine.parts import Part, Position, mean
from cliplit.engine.record import Recorder
from cliplit.errors import CliplitError, told
from cliplit.files.atomic import write_text
from cliplit.files.tensors import load_tensors, save_tensors
from cliplit.settings import Watch

SAVING_SHARE = 0.02  # of the time at most goes into saving the progress


@dataclass(eq=False)
class Loop:
    """The iterations of one part of the alternation.

        for iteration in loop.until(interrupts):      # resumes where an interrupted run stopped
            loop.step(loss, term=value, ...)

    If all randomness follows from the iteration (cliplit/engine/randomness.py) or from PyTorch's generator, an interrupted
    stage ends with the same bytes as an uninterrupted one.

    Args:
        folder: folder of the stage, for log.csv and progress.pt. The caller removes progress.pt when the stage is saved.
        part: how long it runs, and which weights are kept.
        recorder: how often to save, and what to record for watching; by default as in `Watch`.
    """

    folder: Path
    part: Part
    module: nn.Module
    optimizer: torch.optim.Optimizer
    recorder: Recorder | None = None

    def __post_init__(self) -> None:
        self.progress = self.folder / "progress.pt"
        self.at = self.then = Position(planned=self.part.iterations)
        self.rows: list[dict[str, float]] = []
        self.averaged: dict[str, Tensor] | None = None
        self.best: dict[str, Tensor] | None = None
        self.best_loss = float("inf")
        self._recorder = self.recorder or Recorder(self.folder / "watch", Watch())
        self._resume()

    def until(self, interrupts: Interrupts) -> Iterator[int]:
        """The remaining iterations. Raises KeyboardInterrupt if the user asks to stop, after saving everything so far."""
        least = self._recorder.watch.save_seconds
        pause = least
        last = time.monotonic()
        hidden = not processes.is_main() or None  # None: tqdm decides
        bar = tqdm(total=self.at.planned, initial=self.at.done, desc=self.folder.name, leave=False, disable=hidden)
        with interrupts.postponed(), bar, closing(self._recorder):
            while self.at.done < self.at.planned:
                yield self.at.done
                if self.part.looks(self.at, self.rows):
                    loss = mean(self.rows, "loss", self.part.average)
                    if loss < self.best_loss:
                        self.best_loss = loss
                        self.best = {key: value.detach().clone() for key, value in self._weights().items()}
                self.at = self.then
                self._recorder.after(self.at, self.rows[-1])
                bar.total = self.at.planned
                terms = {key: f"{value:.3g}" for key, value in self.rows[-1].items() if key != "iteration"}
                bar.set_postfix(terms, refresh=False)
                bar.update()
                if any(processes.gather(interrupts.pending)):
                    interrupts.pending = True
                    break
                if time.monotonic() - last > pause:
                    began = time.monotonic()
                    self.save()
                    last = time.monotonic()
                    pause = max(least, (last - began) / SAVING_SHARE) if least else 0.0
            self.save()

    def step(self, loss: Tensor, companion: Tensor | None = None, **terms: Tensor | float) -> None:
        """Take one step of the optimiser, and log a row. Losses and terms are means over the processes.

        Args:
            companion: loss of a module that is trained at the same time; it shares no parameters with `loss`.
        Raises:
            CliplitError: the loss, a term or the gradient is not finite. The weights stay as before the iteration.
        """
        terms = {"loss": loss} | terms | ({} if companion is None else {"companion": companion})
        self.optimizer.zero_grad()
        (loss if companion is None else loss + companion).backward()
        processes.average_gradients(self.module)
        values = torch.stack([torch.as_tensor(value).detach().to(loss).reshape(()) for value in terms.values()])
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.part.max_gradient_norm)
        numbers = torch.cat([processes.average(values), norm.to(loss).reshape(1)]).tolist()
        row = {"iteration": self.at.done} | dict(zip([*terms, "gradient_norm"], numbers, strict=True))
        row["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        bad = [name for name, value in row.items() if not abs(value) < float("inf")]
        if bad:
            self.save()
            found = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "iteration")
            raise CliplitError(
                f"{self.folder}: training diverged at iteration {self.at.done}: {' and '.join(bad)} not finite "
                f"({found}); last good weights: {self.progress} (after {self.at.done} iterations). Lower the learning "
                f"rate or a weight with --set; the stage then starts over"
            )
        self.optimizer.step()
        if self.part.averaging:
            weights = self.module.state_dict()
            if self.averaged is None:
                self.averaged = {key: value.clone() for key, value in weights.items()}
            move_average(self.averaged, weights, self.part.averaging, self.part.trained + self.at.done)
        self.rows.append(row)
        self.then = self.part.after(self.at, self.rows)

    def finish(self) -> dict[str, Tensor]:
        """Write log.csv and return the best weights (or the last ones if the part does not look for them), perhaps averaged."""
        self._write_log()
        return self.best if self.best is not None else self._weights()

    def save(self) -> None:
        """Write the log and everything needed to resume, atomically, in place of what was saved before."""
        self._write_log()
        if processes.is_main():
            save_tensors(self._state(), self.progress)

    def _state(self) -> dict[str, Any]:
        """Everything needed to resume."""
        return {
            "at": vars(self.at),
            "rows": self.rows,
            "averaged": self.averaged,
            "best": self.best,
            "best_loss": self.best_loss,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all(),
        }

    def _resume(self) -> None:
        """Continue from the progress that an interrupted run saved, if it can be read."""
        if not self.progress.exists():
            return
        try:
            state = load_tensors(self.progress)
            if isinstance(state, dict):
                state.pop("best_iteration", None)  # earlier versions also saved this
            if not isinstance(state, dict) or state.keys() != self._state().keys():
                raise CliplitError(f"{self.progress}: not the progress of a stage")
        except CliplitError as error:
            processes.say(f"{error}; the stage starts over")
            return
        what, hint = "not the progress of this stage", "remove the file, and the stage starts over"
        with told(f"{self.progress}: {what}", hint):
            self.module.load_state_dict(state.pop("module"))
            self.optimizer.load_state_dict(state.pop("optimizer"))
            self.at = self.then = Position(**state.pop("at"))
            if len(state["rows"]) != self.at.done:
                raise ValueError("its log has another length")
            torch.set_rng_state(state.pop("random"))
            torch.cuda.set_rng_state_all(state.pop("random_cuda")[: torch.cuda.device_count()])
        vars(self).update(state)

    def _weights(self) -> dict[str, Tensor]:
        return self.module.state_dict() if self.averaged is None else self.averaged

    def _write_log(self) -> None:
        if self.rows and processes.is_main():
            lines = [self.rows[0].keys(), *([f"{value:.6g}" for value in row.values()] for row in self.rows)]
            write_text("".join(",".join(line) + "\n" for line in lines), self.folder / "log.csv")


@torch.no_grad()
def move_average(average: Mapping[str, Tensor], weights: Mapping[str, Tensor], decay: float, iteration: int) -> None:
    """Move an exponential average towards the weights, in place, and faster at the beginning. Counters are copied."""
    decay = min(decay, (1 + iteration) / (10 + iteration))
    for key, value in weights.items():
        if value.is_floating_point():
            average[key].lerp_(value, 1 - decay)
        else:
            average[key].copy_(value)
