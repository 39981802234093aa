"""Compare three ways to read a photo and write it again, on many kinds of photo files (`tests/support/field_files`).

    pip install pyvips pyvips-binary pyexiv2        # cliplit does not need them; missing ones are left out
    python benchmarks/photo_libraries.py [--output results/benchmarks/photo_libraries.md]

Each file is read into an upright array and written in the same format with its metadata, by a separate process. Then
independent programs check the result. "unsaid" means that the result is right, except for a loss that is not reported.
"""

import argparse
import importlib.metadata
import inspect
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from cliplit_photos import formats
from cliplit_photos.formats import FORMATS, read_photo, write_photo

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
MOST_SECONDS = 60  # limit for a file

Rewritten = tuple[Path, list[str]]  # the result, and the messages


def by_pyvips(source: Path, folder: Path) -> Rewritten:
    """pyvips, with Pillow for the formats that its wheel cannot read."""
    import pyvips

    ending = source.suffix.lower()
    target = folder / source.name
    if ending in (".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".heic"):
        return _by_pillow(source, target)
    image = pyvips.Image.new_from_file(str(source), fail_on="truncated").autorot()
    notes = ["first of several pictures taken"] if image.get_n_pages() > 1 else []
    if image.interpretation == "cmyk":
        image = image.icc_transform("srgb", embedded=True, input_profile="cmyk")
        notes.append("CMYK converted to RGB")
    pixels = image.numpy()
    again = pyvips.Image.new_from_array(pixels, interpretation=image.interpretation)
    again = image.draw_image(again, 0, 0)  # on a copy, which holds the metadata
    if "jpeg-thumbnail-data" in again.get_fields():
        again.remove("jpeg-thumbnail-data")
    options: dict[str, Any] = {}
    if image.get("vips-loader") == "jpegload":
        sampled = image.get("jpeg-chroma-subsample") == "4:2:0"
        options = {"Q": 95, "subsample_mode": "on" if sampled else "off"}
    if ending == ".webp":
        lossless = b"VP8L" in source.read_bytes()
        options = {"lossless": lossless, "exact": True} | ({} if lossless else {"Q": 95})
    if ending == ".avif":
        options = {"Q": 95, "subsample_mode": "off"}
    if ending == ".tif":
        options = {"compression": "deflate", "predictor": "float" if pixels.dtype.kind == "f" else "horizontal"}
    if ending == ".gif":
        target = folder / f"{source.name}.png"
    if ending in (".jfif", ".jpe"):
        again.jpegsave(str(target), **options)
    else:
        again.write_to_file(str(target), **options)
    return target, notes


def _by_pillow(source: Path, target: Path) -> Rewritten:
    import pillow_heif
    from PIL import Image, ImageOps

    pillow_heif.register_heif_opener()
    with Image.open(source) as image:
        options = {name: image.info[name] for name in ("exif", "xmp", "icc_profile") if image.info.get(name)}
        ImageOps.exif_transpose(image).save(target, image.format, **options)
    return target, []


def by_exiv2(source: Path, folder: Path) -> Rewritten:
    """Pillow, OpenCV and tifffile for pixels, pyexiv2 for metadata."""
    kind = "TIFF" if source.suffix == ".tif" else _kind(source)
    target = folder / (f"{source.name}.png" if kind == "GIF" else source.name)
    notes = _tiff_again(source, target) if kind == "TIFF" else _pixels_again(source, target)
    if kind in ("JPEG", "MPO", "PNG", "TIFF", "WEBP"):
        try:
            _copy_metadata(source, target)
        except RuntimeError as error:
            notes.append(f"metadata left out ({error})")
    return target, notes


def _kind(source: Path) -> str:
    import pillow_heif
    from PIL import Image

    pillow_heif.register_heif_opener()
    with Image.open(source) as image:
        return image.format


def _tiff_again(source: Path, target: Path) -> list[str]:
    import tifffile

    with tifffile.TiffFile(source) as tiff:
        page = tiff.pages[0]
        if page.photometric not in (0, 1, 2):
            return _pixels_again(source, target)
        pixels = page.asarray()
        pixels = np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels
        pixels = _upright(pixels, page.tags.valueof(274, 1))
        icc = page.tags.valueof(34675)
        tifffile.imwrite(
            target,
            pixels,
            photometric=page.photometric,
            planarconfig="contig" if pixels.ndim > 2 else None,
            extrasamples=page.extrasamples,
            compression=None if page.compression == 1 else "zlib",
            resolution=page.get_resolution(),
            resolutionunit=page.tags.valueof(296, 1),
            extratags=[(34675, 7, None, icc, True)] if icc else [],
            metadata=None,
        )
        return ["first of several pictures taken"] if len(tiff.pages) > 1 else []


def _pixels_again(source: Path, target: Path) -> list[str]:
    import cv2
    from PIL import Image, ImageOps, JpegImagePlugin

    notes = []
    with Image.open(source) as image:
        kind = image.format
        decoder = str(image.tile[0][3]) if image.tile else ""
        if kind in ("PNG", "PPM") and (image.mode[0] == "I" or "16" in decoder):
            deep = cv2.imread(str(source), cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(target), _upright(deep, image.getexif().get(274, 1)))
            return notes
        options: dict[str, Any] = {"quality": 95, "exact": True}
        options |= {name: image.info[name] for name in ("icc_profile", "dpi") if image.info.get(name)}
        if getattr(image, "is_animated", False):
            notes.append("first of several pictures taken")
        if kind in ("JPEG", "MPO"):
            options["subsampling"] = max(0, JpegImagePlugin.get_sampling(image))
        if kind == "WEBP":
            options["lossless"] = b"VP8L" in source.read_bytes()
        if kind in ("AVIF", "HEIF"):
            options |= {name: image.info[name] for name in ("exif", "xmp") if image.info.get(name)}
        if image.mode == "CMYK":
            notes.append("CMYK converted to RGB")
            options.pop("icc_profile", None)
        upright = ImageOps.exif_transpose(image)
        if kind == "AVIF" and image.getexif().get(274, 1) != 1:
            options["exif"] = upright.getexif()
        if "transparency" in image.info:
            upright = upright.convert("LA" if upright.mode in ("1", "L") else "RGBA")
        if upright.mode in ("P", "CMYK"):
            upright = upright.convert("RGB")
        Image.fromarray(np.asarray(upright)).save(target, {"GIF": "PNG", "MPO": "JPEG"}.get(kind, kind), **options)
    return notes


def _copy_metadata(source: Path, target: Path) -> None:
    import pyexiv2

    pyexiv2.set_log_level(4)  # otherwise every warning is an exception
    with pyexiv2.Image(str(source)) as one, pyexiv2.Image(str(target)) as other:
        one.copy_to_another_image(other, comment="jpeg" in one.get_mime_type(), icc=False)
        other.clear_thumbnail()
        now = {
            "Exif.Image.Orientation": 1,
            "Exif.Photo.PixelXDimension": other.get_pixel_width(),
            "Exif.Photo.PixelYDimension": other.get_pixel_height(),
        }
        there = other.read_exif()
        other.modify_exif({name: str(value) for name, value in now.items() if name in there})
        if "Xmp.tiff.Orientation" in other.read_xmp():
            other.modify_xmp({"Xmp.tiff.Orientation": "1"})


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    down = -1 if orientation in (3, 4, 7, 8) else 1
    right = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(array[::down, ::right])


def by_cliplit(source: Path, folder: Path) -> Rewritten:
    """cliplit's own reader and writer."""
    ending = source.suffix.lower()
    target = folder / (source.name if ending in FORMATS else f"{source.name}.png")
    photo = read_photo(source)
    return target, photo.notes + write_photo(photo, target, FORMATS[target.suffix.lower()])


ADAPTERS: dict[str, Callable[[Path, Path], Rewritten]] = {
    "pyvips": by_pyvips,
    "Pillow, OpenCV, tifffile, pyexiv2": by_exiv2,
    "cliplit": by_cliplit,
}
NEEDED = {
    "pyvips": ("pyvips", "pyvips-binary", "pillow", "pillow-heif"),
    "Pillow, OpenCV, tifffile, pyexiv2": ("pillow", "opencv-python-headless", "tifffile", "pyexiv2", "pillow-heif"),
    "cliplit": ("pillow", "opencv-python-headless", "tifffile", "pillow-heif"),
}
LICENCES = {
    "pyvips": "MIT; of its libraries LGPL",
    "Pillow, OpenCV, tifffile, pyexiv2": "MIT-CMU, Apache, BSD; GPL",
    "cliplit": "MIT-CMU, Apache, BSD",
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--output", type=Path, help="also write the table there")
    options.add_argument("--at-a-time", type=int, default=2, help="files")
    options.add_argument("--every-file", action="store_true", help="also list what is not right, file by file")
    options.add_argument("--one", nargs=3, metavar=("HOW", "SOURCE", "FOLDER"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        rewrite_here(*given.one)
        return
    there = [name for name in ADAPTERS if all(map(_is_installed, NEEDED[name]))]
    with tempfile.TemporaryDirectory() as temporary:
        outcomes = try_all(there, Path(temporary), given.at_a_time)
        costs = {name: cost_of(name, Path(temporary)) for name in there}
    table = to_table(outcomes, costs)
    for name in ADAPTERS.keys() - set(there):
        table += f"\nNot tried, for it is not installed: {name}.\n"
    print(table)
    if given.every_file:
        for name, found in outcomes.items():
            print(*(f"{name} | {file} | {why}" for file, why in found.items() if why), sep="\n")
    if given.output:
        from cliplit.files.atomic import write_text

        write_text(table, given.output)


def rewrite_here(how: str, source: str, folder: str) -> None:
    """The process of one file: it prints the result or the refusal as JSON."""
    began = time.perf_counter()
    try:
        target, notes = ADAPTERS[how](Path(source), Path(folder))
        told = {"target": str(target), "notes": notes}
    except Exception as error:
        told = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(told | {"seconds": time.perf_counter() - began, "megabytes": _peak()}))


def rewrite(how: str, source: Path, folder: Path) -> dict[str, Any]:
    """The result for a file from a separate process; raises if it crashed or took too long."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-W", "ignore", __file__, "--one", how, source, folder]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MOST_SECONDS, check=False)
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"crash": f"more than {MOST_SECONDS} s"}
    except (IndexError, ValueError):
        return {"crash": f"ended with {done.returncode}"}


def try_all(names: list[str], folder: Path, at_a_time: int) -> dict[str, dict[str, str]]:
    """What is wrong with each file, by adapter and file; an empty text means nothing."""
    from field_files import CASES

    for name, case in CASES.items():
        (folder / name).write_bytes(case.make()[0])
    with ThreadPoolExecutor(at_a_time) as pool:
        return {
            how: dict(zip(CASES, pool.map(lambda name, how=how: _try(how, folder / name), CASES), strict=True))
            for how in names
        }


def _try(how: str, source: Path) -> str:
    from field_files import CASES, wrong

    _, right = CASES[source.name].make()
    told = rewrite(how, source, source.parent / how)
    if "crash" in told:
        return told["crash"]
    if "error" in told:
        return "" if right.pixels is None else f"refused: {told['error']}"
    try:
        return wrong(right, Path(told["target"]), told["notes"])
    except Exception as error:  # the result cannot be read
        return f"no picture ({type(error).__name__})"


def cost_of(how: str, folder: Path) -> dict[str, str]:
    """Lines of code, size, licence, seconds and memory of an adapter."""
    from PIL import Image

    large = folder / "large.jpg"
    small = np.random.default_rng(0).integers(0, 256, (75, 100, 3), dtype=np.uint8)
    Image.fromarray(small).resize((4000, 3000), Image.Resampling.BICUBIC).save(large, quality=95, subsampling=2)
    runs = [rewrite(how, large, folder / how) for _ in range(3)]
    return {
        "lines of code": str(_lines(how)),
        "installed, MB": f"{sum(map(_megabytes, NEEDED[how])):.0f}",
        "licence": LICENCES[how],
        "seconds for 12 megapixels of JPEG": f"{min(run['seconds'] for run in runs):.1f}",
        "most memory for them, MB": f"{min(run['megabytes'] for run in runs):.0f}",
    }


def _lines(how: str) -> int:
    if how == "cliplit":
        sources = [path.read_text() for path in Path(formats.__file__).parent.glob("*.py")]
    else:
        helpers = {"pyvips": [by_pyvips, _by_pillow]}.get(
            how, [by_exiv2, _kind, _tiff_again, _pixels_again, _copy_metadata, _upright]
        )
        sources = [inspect.getsource(function) for function in helpers]
    return sum(bool(line.strip()) for source in sources for line in source.splitlines())


def _peak() -> float:
    """The peak memory of this process in MB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _is_installed(package: str) -> bool:
    try:
        return bool(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return False


def _megabytes(package: str) -> float:
    files = importlib.metadata.files(package) or []
    return sum(path.stat().st_size for path in map(Path, (file.locate() for file in files)) if path.is_file()) / 1e6


def to_table(outcomes: dict[str, dict[str, str]], costs: dict[str, dict[str, str]]) -> str:
    """Markdown: a row for each requirement with its number of files, then totals and costs."""
    from field_files import CASES

    rows = [["what must hold", "files", *outcomes]]
    for holds in dict.fromkeys(case.holds for case in CASES.values()):
        names = [name for name, case in CASES.items() if case.holds == holds]
        rows.append(
            [holds, str(len(names)), *(_verdict([found[name] for name in names]) for found in outcomes.values())]
        )
    rows.append(
        ["**right**", str(len(CASES)), *(str(sum(not why for why in found.values())) for found in outcomes.values())]
    )
    for what in next(iter(costs.values())):
        rows.append([what, "", *(cost[what] for cost in costs.values())])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _versions(outcomes))
    return "\n".join([lines[0], "| --- " * len(rows[0]) + "|", *lines[1:]]) + f"\n\n{machine}; {versions}.\n"


def _verdict(found: list[str]) -> str:
    bad = [why.partition(": ")[0] for why in found if why]
    if not bad:
        return "right"
    reasons = ", ".join(dict.fromkeys(bad))
    count = f"{len(found) - len(bad)} of {len(found)}: " if len(found) > 1 else ""
    return count + (reasons if len(reasons) <= 90 else reasons[:87] + "…")


def _versions(outcomes: dict[str, dict[str, str]]) -> list[str]:
    return list(dict.fromkeys(package for name in outcomes for package in NEEDED[name]))


if __name__ == "__main__":
    main()
