"""A training loop that logs, keeps a copy of the best network, and goes on where it was interrupted."""

import csv
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from cliplit.checks import CliplitError
from cliplit.runs import write_text

SAVE_EVERY = 20.0  # seconds between saves of the progress


class Loop:
    """Iterations of one training stage.

        for iteration in loop:      # goes on where an interrupted run stopped
            loop.step(loss, term=value, ...)
            if loop.last and loss > threshold:
                loop.extend(60)

    All randomness must follow from the iteration (cliplit/sampling.py); then an interrupted stage ends with the
    same bytes as an uninterrupted one. `memory` is a place for numbers that must survive an interruption.

    Args:
        folder: of the stage; gets log.csv and, until `finish`, progress.pt.
        average: the best network has the lowest mean loss of so many iterations.
        look_every: iterations between looks for the best network; 0 keeps none.
    """

    def __init__(
        self,
        folder: Path,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        iterations: int,
        average=1,
        look_every=0,
    ):
        self.folder, self.module, self.optimizer = folder, module, optimizer
        self.iteration, self.iterations = 0, iterations
        self.average, self.look_every = average, look_every
        self.rows: list[dict[str, float]] = []
        self.memory: dict[str, int] = {}
        self.best: dict[str, Tensor] | None = None
        self.best_iteration, self.best_loss = 0, float("inf")
        if self._progress.exists():
            self._restore()

    @property
    def _progress(self) -> Path:
        return self.folder / "progress.pt"

    @property
    def last(self) -> bool:
        """Whether the current iteration is the last one."""
        return self.iteration + 1 >= self.iterations

    def __iter__(self) -> Iterator[int]:
        saved = time.monotonic()
        with tqdm(total=self.iterations, initial=self.iteration, desc=self.folder.name, leave=False) as bar:
            while self.iteration < self.iterations:
                yield self.iteration
                self._look()
                self.iteration += 1
                bar.total = self.iterations
                bar.set_postfix(
                    {key: f"{value:.3g}" for key, value in self.rows[-1].items() if key != "iteration"}, refresh=False
                )
                bar.update()
                if time.monotonic() - saved > SAVE_EVERY:
                    self.save()
                    saved = time.monotonic()
        self.save()

    def step(self, loss: Tensor, companion: Tensor | None = None, **terms: Tensor | float) -> None:
        """One step of the optimiser, and a row in the log.

        Args:
            companion: loss of what is trained along; it shares no parameters with `loss`.

        Raises:
            CliplitError: the loss is not finite; names the iteration and the terms.
        """
        terms |= {} if companion is None else {"companion": companion}
        row = {"iteration": self.iteration, "loss": loss.item()} | {
            key: torch.as_tensor(value).item() for key, value in terms.items()
        }
        if not torch.isfinite(loss):
            values = ", ".join(f"{key} {value:.4g}" for key, value in row.items() if key != "iteration")
            raise CliplitError(f"{self.folder}: training diverged at iteration {self.iteration}: {values}")
        self.optimizer.zero_grad()
        (loss if companion is None else loss + companion).backward()
        self.optimizer.step()
        self.rows.append(row)

    def recent(self, term: str, count: int) -> float:
        """Mean of a term over the last `count` iterations."""
        values = [row[term] for row in self.rows[-count:]]
        return sum(values) / len(values)

    def extend(self, iterations: int) -> None:
        """Add iterations."""
        self.iterations += iterations

    def finish(self) -> dict[str, Tensor]:
        """Write log.csv, remove the progress and return the best weights (the last ones if none were looked for)."""
        self._write_log()
        self._progress.unlink(missing_ok=True)
        return self.best if self.best is not None else self.module.state_dict()

    def save(self) -> None:
        """Write the log and everything needed to go on, atomically."""
        self._write_log()
        state = {
            "iteration": self.iteration,
            "iterations": self.iterations,
            "rows": self.rows,
            "memory": self.memory,
            "best": self.best,
            "best_iteration": self.best_iteration,
            "best_loss": self.best_loss,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        temporary = self._progress.with_suffix(".partial")
        torch.save(state, temporary)
        os.replace(temporary, self._progress)

    def _restore(self) -> None:
        state = torch.load(self._progress, map_location="cpu", weights_only=True)
        self.module.load_state_dict(state.pop("module"))
        self.optimizer.load_state_dict(state.pop("optimizer"))
        vars(self).update(state)

    def _look(self) -> None:
        enough = len(self.rows) >= min(self.average, self.iterations)
        if not self.look_every or not enough or (self.iteration + 1) % self.look_every and not self.last:
            return
        loss = self.recent("loss", self.average)
        if loss < self.best_loss:
            self.best_loss, self.best_iteration = loss, self.iteration
            self.best = {key: value.detach().clone() for key, value in self.module.state_dict().items()}

    def _write_log(self) -> None:
        if self.rows:
            text = io.StringIO()
            writer = csv.DictWriter(text, self.rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in self.rows)
            write_text(text.getvalue(), self.folder / "log.csv")
