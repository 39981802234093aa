"""How photos are computed and written. Fields with an `about` text are options of `cliplit enhance`."""

from dataclasses import dataclass, field

from cliplit.settings import amount, count, setting


@dataclass(frozen=True)
class Inference:
    """How to compute. The ledger keeps it with every result.

    Attributes:
        max_memory: bytes for tiles and features, without the image itself.
        preview: longer side in pixels at which the map is predicted; 0: exact.
        tile: side of a tile in pixels; 0: chosen by `max_memory` and the speed of the device.
    """

    precision: str = setting(
        "fp32", "cliplit", about="precision of the convolutions: fp32 or bf16", within="fp32 | bf16"
    )
    max_memory: int = field(default=1 << 30, metadata={"within": "[1, inf)"})
    strength: float = amount(
        1.0, "cliplit", "exponent", "exponent of the illumination map; 0: unchanged, 1: as trained, above 1: stronger"
    )
    preview: int = field(default=0, metadata={"within": "[0, inf)"})
    tile: int = field(default=0, metadata={"within": "[0, inf)"})


@dataclass(frozen=True)
class BatchOptions:
    """What is written, and how many photos at a time. `progress` shows a bar on a terminal."""

    overwrite: bool = setting(False, "cliplit", about="replace results of earlier calls, but no other files")
    save_illumination: bool = setting(False, "cliplit", about="also write NAME.illumination.png (16 bits, 32768 is 1)")
    quality: int = setting(
        0, "cliplit", about="quality of JPEG, HEIC, AVIF and WebP, 1 to 100; 0: a JPEG keeps its own", within="[0, 100]"
    )
    compare: bool = setting(False, "cliplit", about="also write NAME.compare.jpg: before and after, side by side")
    jobs: int = count(1, "cliplit", about="photos to compute at a time on a CPU; useful for many small photos")
    max_pixels: int = amount(0, "cliplit", "pixels", "refuse photos with more pixels; 0: 268 million")
    progress: bool = True
