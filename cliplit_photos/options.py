"""How photos are computed and written: the fields with a line about them are options of `cliplit enhance`."""

from dataclasses import dataclass

from cliplit.settings import amount, count, setting


@dataclass(frozen=True)
class Inference:
    """How to compute; kept in the ledger with every result.

    Attributes:
        max_memory: bytes, for tiles and features, not for the image itself.
        preview: pixels, longer side at which the map is predicted; 0: exact.
        tile: pixels, side of a tile; 0: by `max_memory` and what is quick on the device.
    """

    precision: str = setting("fp32", "cliplit", about="of the convolutions: fp32 or bf16")
    max_memory: int = 1 << 30
    strength: float = setting(
        1.0, "cliplit", "exponent", "on the illumination map; 0: unchanged, 1: as trained, above: more"
    )
    preview: int = 0
    tile: int = 0


@dataclass(frozen=True)
class BatchOptions:
    """What is written, and how many photos at a time; `progress` shows a bar, on a terminal."""

    overwrite: bool = setting(False, "cliplit", about="replace results of earlier calls, and no other files")
    save_illumination: bool = setting(False, "cliplit", about="also NAME.illumination.png: 16 bits, 32768 is 1")
    compare: bool = setting(False, "cliplit", about="also NAME.compare.jpg: before and after, side by side")
    jobs: int = count(1, "cliplit", about="photos computed at a time on a CPU, for many small ones")
    max_pixels: int = amount(0, "cliplit", "pixels", "refuse photos of more; 0: 268 million")
    progress: bool = True
