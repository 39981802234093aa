"""A training loop that logs, keeps a copy of the best weights, and goes on where it was interrupted."""

import csv
import io
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from cliplit.engine import processes
from cliplit.engine.parts import Part, Position, mean
from cliplit.engine.record import Recorder
from cliplit.errors import CliplitError
from cliplit.files.atomic import write_text, writing
from cliplit.settings import Watch

SAVING_SHARE = 0.02  # of the time at most goes into saving the progress


class Loop:
    """Iterations of one part of the alternation.

        for iteration in loop:      # goes on where an interrupted run stopped
            loop.step(loss, term=value, ...)

    Randomness follows from the iteration (cliplit/engine/randomness.py) or from PyTorch's generator; then an interrupted
    stage ends with the same bytes as an uninterrupted one.

    Args:
        folder: of the stage; gets log.csv and, until `forget`, progress.pt.
        part: how long it goes on, and which weights are kept.
        recorder: how often to save, and what is recorded for those who watch; by default as `Watch` has it.
    """

    def __init__(
        self,
        folder: Path,
        part: Part,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        recorder: Recorder | None = None,
    ):
        self.folder = folder
        self.part = part
        self.module = module
        self.optimizer = optimizer
        self.at = self.then = part.begin()
        self.rows: list[dict[str, float]] = []
        self.best: dict[str, Tensor] | None = None
        self.best_iteration = 0
        self.best_loss = float("inf")
        self._recorder = recorder or Recorder(folder, Watch())
        if self._progress.exists():
            self._restore()

    @property
    def _progress(self) -> Path:
        return self.folder / "progress.pt"

    @property
    def starts_anew(self) -> bool:
        """Whether the guard wants new weights after the current iteration."""
        return self.then.starts > self.at.starts

    def __iter__(self) -> Iterator[int]:
        least = self._recorder.watch.save_seconds
        pause = least
        saved = time.monotonic()
        hidden = not processes.is_main() or None  # None: tqdm decides
        bar = tqdm(total=self.at.planned, initial=self.at.done, desc=self.folder.name, leave=False, disable=hidden)
        with bar, self._recorder:
            while self.at.done < self.at.planned:
                yield self.at.done
                self._look()
                self.at = self.then
                self._recorder.after(self.at, self.rows[-1])
                bar.total = self.at.planned
                terms = {key: f"{value:.3g}" for key, value in self.rows[-1].items() if key != "iteration"}
                bar.set_postfix(terms, refresh=False)
                bar.update()
                if time.monotonic() - saved > pause:
                    began = time.monotonic()
                    self.save()
                    saved = time.monotonic()
                    pause = max(least, (saved - began) / SAVING_SHARE)
            self.save()

    def step(self, loss: Tensor, companion: Tensor | None = None, **terms: Tensor | float) -> None:
        """One step of the optimiser, and a row in the log. Losses and terms are means over the processes.

        Args:
            companion: loss of what is trained along; it shares no parameters with `loss`.
        Raises:
            CliplitError: the loss, a term or the gradient is not finite; the weights are those before the iteration.
        """
        terms = {"loss": loss} | terms | ({} if companion is None else {"companion": companion})
        self.optimizer.zero_grad()
        (loss if companion is None else loss + companion).backward()
        processes.average_gradients(self.module)
        values = torch.stack([torch.as_tensor(value).detach().to(loss).reshape(()) for value in terms.values()])
        numbers = torch.cat([processes.average(values), self._gradient_norm().to(loss).reshape(1)]).tolist()
        rate = self.optimizer.param_groups[0]["lr"]
        row = (
            {"iteration": self.at.done}
            | dict(zip([*terms, "gradient_norm"], numbers, strict=True))
            | {"learning_rate": rate}
        )
        self._check(row)
        self.optimizer.step()
        self.rows.append(row)
        self.then = self.part.after(self.at, self.rows)

    def finish(self) -> dict[str, Tensor]:
        """Write log.csv and return the best weights (the last ones if none were looked for)."""
        self._write_log()
        return self.best if self.best is not None else self.module.state_dict()

    def forget(self) -> None:
        """Remove the progress; what the stage learned must be in its files by now."""
        self._progress.unlink(missing_ok=True)

    def save(self) -> None:
        """Write the log and everything needed to go on, atomically, in place of what was saved before."""
        if not processes.is_main():
            return
        self._write_log()
        state = {
            "at": vars(self.at),
            "rows": self.rows,
            "best": self.best,
            "best_iteration": self.best_iteration,
            "best_loss": self.best_loss,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all(),
        }
        with writing(self._progress) as temporary:
            torch.save(state, temporary)
        self._recorder.saved(self.at)

    def _restore(self) -> None:
        state = torch.load(self._progress, map_location="cpu", weights_only=True)
        self.module.load_state_dict(state.pop("module"))
        self.optimizer.load_state_dict(state.pop("optimizer"))
        self.at = self.then = Position(**state.pop("at"))
        torch.set_rng_state(state.pop("random"))
        torch.cuda.set_rng_state_all(state.pop("random_cuda")[: torch.cuda.device_count()])
        vars(self).update(state)

    def _check(self, row: dict[str, float]) -> None:
        bad = [name for name, value in row.items() if not abs(value) < float("inf")]
        if bad:
            self.save()
            values = ", ".join(f"{name} {value:.4g}" for name, value in row.items() if name != "iteration")
            raise CliplitError(
                f"{self.folder}: training diverged at iteration {self.at.done}: {' and '.join(bad)} not finite "
                f"({values}); last good weights: {self._progress} (after {self.at.done} iterations). Lower the learning "
                f"rate or a weight with --set, then the stage starts anew"
            )

    def _gradient_norm(self) -> Tensor:
        gradients = [parameter.grad for parameter in self.module.parameters() if parameter.grad is not None]
        return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))

    def _look(self) -> None:
        if not self.part.best or not self.part.best.looks(self.at, self.rows):
            return
        loss = mean(self.rows, "loss", self.part.best.average)
        if loss < self.best_loss:
            self.best_loss = loss
            self.best_iteration = self.at.done
            self.best = {key: value.detach().clone() for key, value in self.module.state_dict().items()}

    def _write_log(self) -> None:
        if self.rows and processes.is_main():
            text = io.StringIO()
            writer = csv.DictWriter(text, self.rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in self.rows)
            write_text(text.getvalue(), self.folder / "log.csv")
