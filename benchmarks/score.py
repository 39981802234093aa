"""Compare the time of `cliplit score` with pyiqa's own command, called once per metric, on the same files.

    python benchmarks/score.py [--folder DIR] [--output results/benchmarks/score.md]

By default, the images to score are darker copies of fifty crops of the demo's photos, in three sizes.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cliplit.data.demo_images import PHOTOS, photo
from cliplit.files.atomic import write_text
from cliplit.files.tensors import write_image
from cliplit.scoring.summary import markdown

METRICS = ("psnr", "ssim", "entropy", "piqe")
SIZES = ((240, 320), (300, 300), (256, 384))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--folder", type=Path, help="images; with a folder of references of the same names beside it")
    options.add_argument("--reference", type=Path)
    options.add_argument("--output", type=Path, help="also write the table there")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        images, references = (given.folder, given.reference) if given.folder else make_images(Path(temporary))
        table = compare(images, references, Path(temporary) / "cache")
    print(table)
    if given.output:
        write_text(table, given.output)


def make_images(root: Path, count: int = 50) -> tuple[Path, Path]:
    """Write crops of the embedded photos as references, and darker copies as images."""
    photos = [photo(name) for name in PHOTOS]
    for n in range(count):
        height, width = SIZES[n % len(SIZES)]
        whole = photos[n % len(photos)]
        top = (37 * n) % max(1, whole.shape[1] - height)
        left = (53 * n) % max(1, whole.shape[2] - width)
        crop = whole[:, top : top + height, left : left + width]
        write_image(crop, root / "references" / f"{n:02d}.png")
        write_image(crop**1.8, root / "images" / f"{n:02d}.png")
    return root / "images", root / "references"


def compare(images: Path, references: Path, cache: Path) -> str:
    """The table, in Markdown."""
    ours = ["score", images, "--reference", references, "--metrics", ",".join(METRICS)]
    theirs = sum(seconds("pyiqa", [name, "-t", images, "-r", references, "--device", "cpu"]) for name in METRICS)
    first = seconds("cliplit", ours, CLIPLIT_CACHE=str(cache))
    again = seconds("cliplit", ours, CLIPLIT_CACHE=str(cache))
    import pandas as pd

    rows = [
        (f"pyiqa, once per metric ({', '.join(METRICS)})", f"{theirs:.1f}", "1"),
        ("cliplit score", f"{first:.1f}", f"{theirs / first:.1f}"),
        ("cliplit score, again", f"{again:.1f}", f"{theirs / again:.1f}"),
    ]
    count = sum(path.is_file() for path in images.iterdir())
    machine = (
        f"{count} images; {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, CPU only"
    )
    return markdown(pd.DataFrame(rows, columns=["command", "seconds", "times as fast"])) + f"\n{machine}.\n"


def seconds(program: str, arguments: list, **environment: str) -> float:
    """Seconds that a command of this environment takes.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    command = [str(Path(sys.executable).with_name(program)), *map(str, arguments)]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=os.environ | environment)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
