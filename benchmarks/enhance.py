"""Compare time and memory of `enhance_pixels` and of the plain network on the full frame in float32, on one photo.

    python benchmarks/enhance.py [PHOTO] [--checkpoint FILE] [--megapixels 0.25 3 12] [--output FILE]
    python benchmarks/enhance.py --files [PHOTO] [--checkpoint FILE] [--megapixels 3 12 48] [--output FILE]
    python benchmarks/enhance.py --check DIR --checkpoint FILE  # every photo, three tile sizes, against the full frame

With --files, photos are enhanced from JPEG to JPEG as `cliplit enhance` does, by default with the shipped network. The
table compares the time of computing with the time of decoding and encoding, and shows the memory above that of the
started program.

Every row is measured in its own process. Its memory is the peak during computing minus the memory before it, with the
image loaded, so it includes the result. The default photo is one of scikit-image, resized. Without a checkpoint the
weights are random: the speed is the same, but the preview is meaningless.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

HOW = {
    "plain": "plain network, fp32",
    "fp32": "fp32",
    "bf16": "bf16",
    "preview": "preview of 512 pixels, fp32",
}
REPEATED = 9  # repetitions from file to file
CHECK_TILES = (100, 256, 600)
PLAIN_SPARE = 1.2  # the plain network runs only if this times the memory it needs is free


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("photo", type=Path, nargs="?")
    options.add_argument("--checkpoint", type=Path)
    options.add_argument("--megapixels", type=float, nargs="+", default=[0.25, 3, 12])
    options.add_argument("--how", nargs="+", choices=HOW, default=list(HOW))
    options.add_argument("--files", action="store_true", help="from file to file")
    options.add_argument("--check", type=Path, metavar="DIR", help="compare results instead of timing")
    options.add_argument("--output", type=Path, help="also write the table there")
    options.add_argument("--child", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        work = {"file": measure_file, "save": save_jpeg}.get(given.child, measure)
        print(json.dumps(work(given.child, given.photo, given.megapixels[0], given.checkpoint)))
        return
    if given.check:
        check(given.check, given.checkpoint)
        return
    table = compare_files(given) if given.files else compare(given)
    print(table)
    if given.output:
        from cliplit.files.atomic import write_text

        write_text(table, given.output)


def compare(given: argparse.Namespace) -> str:
    """The table in Markdown. This process stays small and imports little."""
    rows = []
    notes = []
    per_megapixel = 0.0  # bytes that the plain network needs
    with tempfile.TemporaryDirectory() as folder:
        for megapixels in given.megapixels:
            needs = PLAIN_SPARE * per_megapixel * megapixels
            reference = None
            for how in given.how:
                if how == "plain" and needs > available():
                    notes.append(f"plain at {megapixels:g} MP would take {needs / PLAIN_SPARE / 1e9:.0f} GB")
                    continue
                found = run_child(how, given, megapixels, Path(folder))
                if how == "plain":
                    reference = found
                    per_megapixel = found["memory"] / megapixels
                rows.append([f"{megapixels:g}", HOW[how], *cells(found, reference, given.checkpoint)])
                print(" ".join(rows[-1]), file=sys.stderr)
    columns = ["megapixels", "how", "seconds", "times as fast", "MB", "times less", "to plain: most / mean / PSNR"]
    return written(rows, columns, given.checkpoint.stem if given.checkpoint else "random weights", notes)


def compare_files(given: argparse.Namespace) -> str:
    """The table of --files, in Markdown."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for megapixels in given.megapixels:
            found = run_child("file", given, megapixels, Path(folder))
            times = [found[part] for part in ("decode", "compute", "encode")]
            ratio = found["compute"] / (found["decode"] + found["encode"])
            shown = [
                f"{megapixels:g}",
                *(f"{seconds:.2f}" for seconds in times),
                f"{ratio:.2f}",
                f"{found['memory'] / 1e6:.0f}",
            ]
            rows.append(shown)
            print(" ".join(shown), file=sys.stderr)
    columns = ["megapixels", "decoding, s", "computing, s", "encoding, s", "computing / both", "MB above the start"]
    return written(rows, columns, given.checkpoint.stem if given.checkpoint else "the shipped network", [])


def written(rows: list[list[str]], columns: list[str], weights: str, notes: list[str]) -> str:
    """A table in Markdown, with the network and the machine."""
    import pandas as pd

    from cliplit.scoring.summary import markdown

    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, CPU only"
    lines = [f"{weights}; {machine}; {date.today()}", *notes]
    return markdown(pd.DataFrame(rows, columns=columns)) + f"\n{'; '.join(lines)}.\n"


def run_child(how: str, given: argparse.Namespace, megapixels: float, folder: Path) -> dict:
    """The result of `measure` in a separate process."""
    command = [sys.executable, __file__, "--child", how, "--megapixels", str(megapixels)]
    if given.photo:
        command.append(str(given.photo))
    if given.checkpoint:
        command += ["--checkpoint", str(given.checkpoint)]
    kept = folder / f"{how}.npy"
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ | {"RESULT": str(kept)}).stdout
    return json.loads(output.splitlines()[-1]) | {"result": kept}


def measure(how: str, photo: Path | None, megapixels: float, checkpoint: Path | None) -> dict:
    """Seconds and bytes of one way to enhance; writes its result to $RESULT."""
    import numpy as np

    network = load_network(checkpoint)
    pixels = load_pixels(photo, megapixels)
    work = {
        "plain": lambda image: plain(network, image),
        "fp32": lambda image: enhanced(network, image),
        "bf16": lambda image: enhanced(network, image, precision="bf16"),
        "preview": lambda image: enhanced(network, image, preview=512),
    }[how]
    work(np.ascontiguousarray(pixels[:200, :200]))  # kernels are compiled at first use
    before = memory("VmRSS")
    seconds = []
    for _ in range(3 if megapixels < 1 else 1):
        began = time.perf_counter()
        result = work(pixels)
        seconds.append(time.perf_counter() - began)
    peak = memory("VmHWM") - before
    np.save(os.environ["RESULT"], result)
    return {"seconds": min(seconds), "memory": peak}


def measure_file(how: str, photo: Path | None, megapixels: float, checkpoint: Path | None) -> dict:
    """Median seconds of each part from JPEG to JPEG, and bytes above those of the started program."""
    import numpy as np

    from cliplit.method.checkpoints import load_enhancer
    from cliplit_photos.formats import read_photo, write_photo
    from cliplit_photos.inference import SHIPPED_ENHANCER, Inference, enhance_pixels

    source = Path(os.environ["RESULT"]).with_suffix(".jpg")
    subprocess.run(
        [sys.executable, __file__, "--child", "save", "--megapixels", str(megapixels), *([photo] if photo else [])],
        check=True,
    )
    network = load_enhancer(checkpoint or SHIPPED_ENHANCER)
    enhance_pixels(network, np.zeros((200, 200, 3), np.uint8))  # kernels are compiled at first use
    before = memory("VmRSS")
    runs = []
    for _ in range(REPEATED):
        times = [time.perf_counter()]
        opened = read_photo(source)
        times.append(time.perf_counter())
        enhance_pixels(network, opened.pixels, Inference(), out=opened.pixels)
        times.append(time.perf_counter())
        write_photo(opened, source.with_name("result.jpg"), "JPEG")
        times.append(time.perf_counter())
        del opened  # one photo at a time
        runs.append(np.diff(times))
    medians = np.median(runs, 0).tolist()
    return dict(zip(("decode", "compute", "encode"), medians, strict=True)) | {"memory": memory("VmHWM") - before}


def save_jpeg(how: str, photo: Path | None, megapixels: float, checkpoint: Path | None) -> dict:
    """Write a JPEG of this many megapixels to $RESULT, in a separate process, which keeps the peak memory correct."""
    from PIL import Image

    Image.fromarray(load_pixels(photo, megapixels)).save(Path(os.environ["RESULT"]).with_suffix(".jpg"), quality=92)
    return {}


def plain(network, pixels):
    """Enhance the full frame like the released test script, but with ε."""
    import torch

    from cliplit.files.tensors import to_tensor, to_uint8

    with torch.no_grad():
        return to_uint8(network.enhance(to_tensor(pixels)[None])[0])


def enhanced(network, pixels, **options):
    from cliplit_photos.inference import Inference, enhance_pixels

    return enhance_pixels(network, pixels, Inference(**options))


def load_network(checkpoint: Path | None):
    from cliplit.method.checkpoints import load_enhancer
    from cliplit.method.enhancer import Enhancer

    return load_enhancer(checkpoint) if checkpoint else Enhancer().initialize(0).eval()


def load_pixels(photo: Path | None, megapixels: float):
    """A 4:3 photo of this many megapixels, uint8."""
    import numpy as np
    from PIL import Image

    from cliplit.data.demo_images import photo as embedded
    from cliplit.files.tensors import to_uint8

    image = Image.open(photo).convert("RGB") if photo else Image.fromarray(to_uint8(embedded("motorcycle") ** 1.8))
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    return np.array(image.resize((round(height * 4 / 3), height), Image.Resampling.BICUBIC))


def cells(found: dict, reference: dict | None, checkpoint: Path | None) -> list[str]:
    """Seconds, ratio, megabytes, ratio, and the difference to the plain result in 8-bit steps and dB."""
    import numpy as np

    own = [f"{found['seconds']:.2f}", f"{found['memory'] / 1e6:.0f}"]
    if reference is None:
        return [own[0], "", own[1], "", ""]
    ratios = [f"{reference[key] / max(found[key], 1e-9):.1f}" for key in ("seconds", "memory")]
    error = np.abs(np.load(found["result"]).astype(np.float32) - np.load(reference["result"]))
    psnr = "equal" if not error.any() else f"{20 * np.log10(255 / np.sqrt((error**2).mean())):.1f} dB"
    difference = f"{error.max():.0f} / {error.mean():.3f} / {psnr}"
    return [own[0], ratios[0], own[1], ratios[1], "" if found is reference else difference]


def check(folder: Path, checkpoint: Path | None) -> None:
    """Largest difference to the full frame, of the map and in 8-bit steps, for every photo and tile size."""
    import numpy as np
    import torch
    from PIL import Image

    from cliplit.files.tensors import to_tensor
    from cliplit_photos.inference import Inference, enhance_pixels

    network = load_network(checkpoint)
    for path in sorted(folder.iterdir()):
        pixels = np.array(Image.open(path).convert("RGB"))
        with torch.no_grad():
            expected = network(to_tensor(pixels)[None])[0, 0].numpy()
        full = plain(network, pixels)
        for tile in CHECK_TILES:
            map_ = np.empty(pixels.shape[:2], np.float32)
            result = enhance_pixels(network, pixels, Inference(tile=tile), map_)
            steps = np.abs(result.astype(int) - full)
            error = np.abs(map_ - expected).max()
            where = f"{path.name} {pixels.shape[:2]} tile {tile}"
            print(f"{where}: map {error:.1e}, {steps.max()} steps, in {(steps > 0).mean():.1e} of values", flush=True)


def memory(key: str) -> int:
    """Memory of this process in bytes on Linux: VmRSS is the memory now, VmHWM the peak."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(key))


def available() -> int:
    """Bytes of memory that are available to programs."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


if __name__ == "__main__":
    main()
