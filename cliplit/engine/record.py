"""What a loop leaves for those who watch it, in <run>/watch/<stage>: no result depends on it, and it may be removed.

speed.csv             iterations done and planned, images per second and memory at every save of the progress
panel_000100.jpg      a fixed panel of images
events.*              for TensorBoard, if the settings ask for it
"""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from cliplit.engine import processes
from cliplit.engine.parts import Position
from cliplit.files.atomic import write_text, writing
from cliplit.files.tensors import to_uint8
from cliplit.settings import Watch

PANEL_SIDE = 160  # pixels
LABEL_HEIGHT = 16
GAP = 4
COLUMNS = ("done", "planned", "seconds", "images_per_second", "memory_mb")


def watch_folder(stage: Path) -> Path:
    """Where a stage's folder leaves what serves watching."""
    return stage.parent / "watch" / stage.name


class Recorder:
    """Records one stage; only the main process does. A context, so that files are closed.

    Args:
        batch_size: images (or tuples) of an iteration, for images per second.
        panel: gives rows of images (N, 3 or 1, H, W) in [0, 1] by name, to be drawn now and then.
    """

    def __init__(
        self, stage: Path, watch: Watch, batch_size: int = 1, panel: Callable[[], Mapping[str, Tensor]] | None = None
    ):
        self.folder = watch_folder(stage)
        self.watch = watch
        self._batch_size = batch_size
        self._panel = panel
        self._events: Any = None
        self._began = time.monotonic()
        self._since = 0  # iterations

    def __enter__(self) -> "Recorder":
        if self.watch.tensorboard and processes.is_main():
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(self.folder))
        return self

    def __exit__(self, *_: object) -> None:
        if self._events:
            self._events.close()

    def after(self, at: Position, row: Mapping[str, float]) -> None:
        """Record an iteration, whose row in the log this is."""
        self._since += 1
        if not processes.is_main():
            return
        for name, value in row.items() if self._events else ():
            self._events.add_scalar(name, value, at.done)
        if self._panel and self.watch.panel_every and (at.done % self.watch.panel_every == 0 or at.done == at.planned):
            panel = draw_panel(self._panel())
            save_panel(panel, self.folder / f"panel_{at.done:06}.jpg")
            if self._events:
                self._events.add_image("panel", panel, at.done, dataformats="HWC")

    def saved(self, at: Position) -> None:
        """Note the speed since the start of this process."""
        seconds = time.monotonic() - self._began
        values = (at.done, at.planned, f"{seconds:.3f}", f"{self._batch_size * self._since / seconds:.4g}", memory_mb())
        path = self.folder / "speed.csv"
        before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ",".join(COLUMNS) + "\n"
        write_text(before + ",".join(map(str, values)) + "\n", path)


def memory_mb() -> int:
    """Peak memory in MB: of the GPU if one is used, else of this process; 0 on Windows."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() >> 20
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)


def draw_panel(rows: Mapping[str, Tensor]) -> np.ndarray:
    """Rows of images (N, 3 or 1, H, W) in [0, 1] with their names above, (H, W, 3) of 8 bits."""
    strips = []
    for name, images in rows.items():
        label = Image.new("RGB", (len(images) * (PANEL_SIDE + GAP), LABEL_HEIGHT), "white")
        ImageDraw.Draw(label).text((1, 2), name, fill="#222222")
        tiles = [np.pad(_tile(image), ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for image in images]
        strips += [np.asarray(label), np.concatenate(tiles, 1)]
    return np.concatenate(strips)


def save_panel(panel: np.ndarray, path: Path) -> None:
    """Write a panel as JPEG, atomically."""
    with writing(path) as temporary:
        Image.fromarray(panel).save(temporary, "JPEG", quality=90)


def _tile(image: Tensor) -> np.ndarray:
    array = to_uint8(image.detach().float().clamp(0, 1).expand(3, -1, -1))
    return np.asarray(Image.fromarray(array).resize((PANEL_SIDE, PANEL_SIDE), Image.Resampling.LANCZOS))
