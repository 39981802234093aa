"""Records for watching a loop, in <run>/watch/<stage>: panels of images, and events for TensorBoard if wanted.

No result depends on them, and they may be removed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from cliplit.engine import processes
from cliplit.engine.parts import Position
from cliplit.files.atomic import writing
from cliplit.files.tensors import to_uint8
from cliplit.settings import Watch

SIDE = 160  # pixels
LABEL_HEIGHT = 16
GAP = 4


@dataclass
class Recorder:
    """Records one stage, in the main process only.

    Args:
        folder: where it records.
        panel: returns rows of images (N, 3 or 1, H, W) in [0, 1] by name, which are drawn now and then.
    """

    folder: Path
    watch: Watch
    panel: Callable[[], Mapping[str, Tensor]] | None = None
    _events: Any = None

    def close(self) -> None:
        """Close the files."""
        if self._events:
            self._events.close()

    def after(self, at: Position, row: Mapping[str, float]) -> None:
        """Record an iteration, given its row in the log."""
        if not processes.is_main():
            return
        if self.watch.tensorboard and not self._events:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(self.folder))
        for name, value in row.items() if self._events else ():
            self._events.add_scalar(name, value, at.done)
        if self.panel and self.watch.panel_every and (at.done % self.watch.panel_every == 0 or at.done == at.planned):
            panel = draw_panel(self.panel())
            with writing(self.folder / f"panel_{at.done:06}.jpg") as temporary:
                panel.save(temporary, "JPEG", quality=90)
            if self._events:
                self._events.add_image("panel", np.asarray(panel), at.done, dataformats="HWC")


def draw_panel(rows: Mapping[str, Tensor]) -> Image.Image:
    """Rows of images (N, 3 or 1, H, W) in [0, 1] with their names above."""
    strips = []
    for name, images in rows.items():
        tiles = F.interpolate(
            images.detach().float().expand(-1, 3, -1, -1), (SIDE, SIDE), mode="bilinear", antialias=True
        )
        tiles = F.pad(tiles, (0, GAP, LABEL_HEIGHT, 0), value=1)
        strip = Image.fromarray(np.concatenate(to_uint8(tiles), 1))
        ImageDraw.Draw(strip).text((1, 2), name, fill="#222222")
        strips.append(np.asarray(strip))
    return Image.fromarray(np.concatenate(strips))
