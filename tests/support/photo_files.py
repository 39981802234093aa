"""Photos to enhance, and what is found in folders."""

from pathlib import Path

import numpy as np
from PIL import Image


def picture(path: Path, size=(30, 20), seed: int = 0, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = len(mode) if mode != "L" else 1
    values = np.random.default_rng(seed).integers(0, 255, (*size[::-1], channels), dtype=np.uint8)
    Image.fromarray(values[..., 0] if channels == 1 else values, mode).save(path)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for ledgers, which hold times."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".jsonl")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def partial(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".partial")]
