"""Compare the shipped enhancer with others, on photos that it was not trained with: a table and a contact sheet.

    python data_scripts/evaluate_enhancer.py --photos DIR... --real DIR... [--checkpoint NAME=FILE] [--fill docs/enhancer.md]

Pairs are made of the held-out photos (see data_scripts/train_enhancer.py) at three degrees of backlight; the real
photos have no references. Writes table.csv, table.md and contact_sheet.jpg to --output.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from tqdm import tqdm
from train_enhancer import split

from cliplit.data.relight import SEVERITIES
from cliplit.data.synthesize import relight_photo
from cliplit.experiments.tables import fill_in
from cliplit.figures.style import mosaic
from cliplit.files.folders import list_images
from cliplit.files.images import decode
from cliplit.files.tensors import read_image, to_tensor, to_uint8
from cliplit.method.checkpoints import load_enhancer
from cliplit.method.enhancer import Enhancer
from cliplit.photos.inference import DEFAULT, Inference, enhance_pixels
from cliplit.scoring.metrics import Meter
from cliplit.scoring.summary import write_table
from cliplit.settings import named_paths

GAMMAS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # the best one, by mean PSNR over all pairs, is the row `gamma`
SEED = 0  # of the simulated backlight
REAL = 1_000_000  # pixels: larger real photos are reduced
COLUMNS = 6  # of the contact sheet
OURS = "ours"
UNTOUCHED = "PSNR, well-lit to itself"  # how much a photo that needs nothing is changed


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--photos", type=Path, nargs="+", required=True, help="the folders that it was trained with")
    options.add_argument("--real", type=Path, nargs="*", default=[], help="folders of real backlit or dark photos")
    options.add_argument("--checkpoint", action="append", default=[], metavar="NAME=FILE", help="also compare this one")
    options.add_argument("--every", type=int, default=10, help="one of so many held-out photos")
    options.add_argument("--output", type=Path, default=Path("results/default"))
    options.add_argument("--fill", type=Path, help="also put the table between <!-- default --> marks there")
    given = options.parse_args()
    files = {OURS: DEFAULT} | named_paths(tuple(given.checkpoint))
    networks = {name: load_enhancer(file) for name, file in reversed(files.items())}
    held_out = [file for folder in given.photos for file in split(folder)[1]][:: given.every]
    real = [_reduced(file) for folder in given.real for file in list_images(folder)]
    rows = pairs_table(networks, held_out)
    if real:
        rows["NIQE, real photos"] = pd.Series(real_scores(networks, real))
    table = rows.rename_axis("").reset_index()
    shown = table.round(3).astype(object)
    write_table(table, shown.where(shown.notna(), ""), given.output, "table")
    if real:
        sheet(networks, real).savefig(given.output / "contact_sheet.jpg", pil_kwargs={"quality": 85})
    if given.fill:
        fill_in(given.fill, {"default": (given.output / "table.md").read_text(encoding="utf-8")})
    print((given.output / "table.md").read_text(encoding="utf-8"))


def results(networks: dict[str, Enhancer], image: Tensor, gammas: tuple[float, ...] = GAMMAS) -> dict[str, Tensor]:
    """An image (3, H, W), and what becomes of it, rounded to 8 bits."""
    pixels = to_uint8(image)
    found = {"input": image} | {f"gamma {gamma}": to_tensor(to_uint8(image**gamma)) for gamma in gammas}
    return found | {name: to_tensor(enhance_pixels(network, pixels, Inference())) for name, network in networks.items()}


def pairs_table(networks: dict[str, Enhancer], photos: list[Path]) -> pd.DataFrame:
    """Mean PSNR and SSIM at every degree of backlight, and without any: one row per method."""
    meter, scores = Meter(["psnr", "ssim"]), []
    for file in tqdm(photos, "pairs", unit="photo"):
        reference = read_image(file)
        for level in SEVERITIES:
            dark = relight_photo(reference, file.stem, level, SEED)[0]
            for name, image in results(networks, dark).items():
                for metric in ("psnr", "ssim"):
                    value = meter.measure(metric, image[None], reference[None])[0]
                    scores.append({"method": name, "column": f"{metric.upper()}, {level}", "value": value})
        for name in networks:
            value = meter.measure("psnr", results({name: networks[name]}, reference, ())[name][None], reference[None])[
                0
            ]
            scores.append({"method": name, "column": UNTOUCHED, "value": value})
    table = pd.DataFrame(scores).pivot_table("value", "method", "column", sort=False)
    psnr = table[[f"PSNR, {level}" for level in SEVERITIES]].mean(1)
    best = psnr[[name for name in table.index if name.startswith("gamma")]].idxmax()
    return table.loc[["input", best, *networks]]


def real_scores(networks: dict[str, Enhancer], photos: list[Tensor]) -> dict[str, float]:
    """Mean NIQE of photos without references; lower is better."""
    meter = Meter(["niqe"])
    scores = [
        {name: meter.measure("niqe", image[None])[0] for name, image in results(networks, photo, ()).items()}
        for photo in tqdm(photos, "real photos", unit="photo")
    ]
    return pd.DataFrame(scores).mean().to_dict()


def sheet(networks: dict[str, Enhancer], photos: list[Tensor]) -> Figure:
    """Real photos in columns: as they are, and below by every network."""
    columns = [results(networks, photo, ()) for photo in photos]
    groups = [columns[start : start + COLUMNS] for start in range(0, len(columns), COLUMNS)]
    rows = [[column[name] for column in group] for group in groups for name in columns[0]]
    return mosaic(rows, row_labels=list(columns[0]) * len(groups))


def _reduced(file: Path) -> Tensor:
    pixels = decode(file)
    scale = (REAL / (pixels.shape[0] * pixels.shape[1])) ** 0.5
    if scale < 1:
        size = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
    return to_tensor(pixels)


if __name__ == "__main__":
    main()
