"""Compare the shipped enhancer with others, on photos that it was not trained with: a table and a contact sheet.

    python data_scripts/evaluate_enhancer.py --photos DIR... --exposures DIR --real DIR... \\
        [--checkpoint NAME=FILE] [--results NAME=FOLDER] [--fill docs/enhancer.md --mark default]

--photos: folders of well-lit photos; of every eighth, which nothing is trained with (see photo_sets.py), a pair is made,
at one of three degrees of backlight. --exposures: dark/ and reference/ with the same scenes by name. --real: backlit and dark
photos without references. Writes table.csv, table.md, table.tex and contact_sheet.jpg to --output.

made backlit        PSNR of the pairs, dB
exposures           PSNR and SSIM of the exposures
shadows             mean luma of the darkest third of the pixels of a dark photo (--exposures and --real)
newly clipped       pixels of dark photos of which a channel is white that was not, %
hue change          mean angle between chroma before and after, weighted by it, on dark photos, degrees
white               what pixels of at least 254 in all channels become, on all photos, of 255
noise               in the shadows, as a multiple of that of a gamma that lifts them alike, on dark photos
itself              PSNR of a well-lit photo's result to the photo, dB
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from fill import fill_in
from matplotlib.figure import Figure
from photo_sets import split
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from cliplit.data.relight import SEVERITIES, luma, relight_photo
from cliplit.experiments.evaluation import named_paths
from cliplit.figures.style import mosaic
from cliplit.files.folders import list_images
from cliplit.files.images import decode
from cliplit.files.tensors import psnr, read_image, to_tensor, to_uint8
from cliplit.method.checkpoints import load_enhancer
from cliplit.method.enhancer import Enhancer
from cliplit.scoring.metrics import Meter
from cliplit.scoring.summary import paired_difference, write_table
from cliplit_photos.inference import SHIPPED_ENHANCER, Inference, enhance_pixels

GAMMAS = (0.4, 0.7)  # of the table's rows; on the pairs and exposures, the best of TRIED is a row, too
TRIED = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SEED = 0  # of the simulated backlight
REAL = 1_000_000  # pixels: larger photos are reduced
COLUMNS = 6  # of the contact sheet
OURS = "ours"
WHITE = 254 / 255
CHROMA = ((-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))  # Cb and Cr of JPEG
DIGITS = {"ssim": 3, "shadows": 3, "noise": 2, "made backlit": 2, "exposures": 2}

Method = Callable[[Tensor, str], Tensor | None]  # an image (3, H, W) and its name -> what becomes of it, if known


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--photos", type=Path, nargs="+", required=True, help="folders of well-lit photos")
    options.add_argument("--exposures", type=Path, help="a folder with dark/ and reference/")
    options.add_argument("--real", type=Path, nargs="*", default=[], help="folders of real backlit or dark photos")
    options.add_argument("--checkpoint", action="append", default=[], metavar="NAME=FILE", help="also compare this one")
    options.add_argument("--results", action="append", default=[], metavar="NAME=FOLDER", help="results, by file stem")
    options.add_argument("--output", type=Path, default=Path("results/default"))
    options.add_argument("--fill", type=Path, help="also put the table between <!-- MARK --> marks there")
    options.add_argument("--mark", default="default", help="of --fill")
    given = options.parse_args()
    methods = methods_of(given.checkpoint, given.results)
    held_out = {file.stem: read_image(file) for file in split(given.photos)[1]}
    exposures = read_exposures(given.exposures) if given.exposures else {}
    real = {file.stem: reduced(file) for folder in given.real for file in list_images(folder)}
    scores = measure(methods, held_out, exposures, real)
    table, shown = summarise(scores, list(methods))
    write_table(table, shown, given.output, "table")
    if real:
        networks = {name: method for name, method in methods.items() if not name.startswith("gamma")}
        sheet(networks, real).savefig(given.output / "contact_sheet.jpg", pil_kwargs={"quality": 85})
    text = (given.output / "table.md").read_text(encoding="utf-8")
    if given.fill:
        fill_in(given.fill, {given.mark: text})
    print(text)


def methods_of(checkpoints: list[str] = (), results: list[str] = ()) -> dict[str, Method]:
    """Everything that is compared, by name."""
    methods: dict[str, Method] = {"input": lambda image, name: image}
    methods |= {f"gamma {gamma}": gamma_method(gamma) for gamma in GAMMAS}
    for name, folder in named_paths(tuple(results)).items():
        methods[name] = folder_method({file.stem: file for file in list_images(folder)})
    files = named_paths(tuple(checkpoints)) | {OURS: SHIPPED_ENHANCER}
    return methods | {name: network_method(load_enhancer(file)) for name, file in files.items()}


def gamma_method(gamma: float) -> Method:
    return lambda image, name: to_tensor(to_uint8(image**gamma))


def network_method(network: Enhancer) -> Method:
    return lambda image, name: to_tensor(enhance_pixels(network, to_uint8(image), Inference()))


def folder_method(files: Mapping[str, Path]) -> Method:
    return lambda image, name: read_image(files[name]) if name in files else None


def read_exposures(folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Dark and reference exposure of every scene."""
    return {
        file.stem: (read_image(file), read_image(folder / "reference" / file.name))
        for file in list_images(folder / "dark")
    }


def measure(
    methods: Mapping[str, Method],
    held_out: Mapping[str, Tensor],
    exposures: Mapping[str, tuple[Tensor, Tensor]],
    real: Mapping[str, Tensor],
) -> pd.DataFrame:
    """Scores of every method and photo: columns method, image, and those of the table."""
    pairs = made_pairs(held_out)
    tried = {f"gamma {gamma}": gamma_method(gamma) for gamma in TRIED}
    rows = []
    for name, (dark, reference) in tqdm(pairs.items(), "made backlit", unit="photo"):
        for method, result in results(tried | methods, dark, name):
            rows.append({"method": method, "image": name, "made backlit": psnr(result[None], reference[None]).item()})
    meter = Meter(["ssim"])
    for name, (dark, reference) in tqdm(exposures.items(), "exposures", unit="photo"):
        for method, result in results(tried | methods, dark, name):
            ssim = meter.measure("ssim", result[None], reference[None])[0]
            row = {"exposures": psnr(result[None], reference[None]).item(), "ssim": ssim} | dark_scores(dark, result)
            rows.append({"method": method, "image": name} | row)
    for name, dark in tqdm(real.items(), "real photos", unit="photo"):
        for method, result in results(methods, dark, name):
            rows.append({"method": method, "image": name} | dark_scores(dark, result))
    for name, photo in tqdm(held_out.items(), "well-lit photos", unit="photo"):
        for method, result in results(methods, photo, name):
            row = {"itself": psnr(result[None], photo[None]).item(), "white": white_becomes(photo, result)}
            rows.append({"method": method, "image": name} | (row if method != "input" else {}))
    return pd.DataFrame(rows)


def results(methods: Mapping[str, Method], image: Tensor, name: str) -> list[tuple[str, Tensor]]:
    """What every method makes of an image, as far as it is known."""
    found = [(method, make(image, name)) for method, make in methods.items()]
    return [(method, result) for method, result in found if result is not None]


def made_pairs(held_out: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Held-out photos against the light, one degree after the other, and as they are."""
    levels = list(SEVERITIES)
    return {
        name: (relight_photo(photo, name, levels[n % len(levels)], SEED)[0], photo)
        for n, (name, photo) in enumerate(held_out.items())
    }


def dark_scores(image: Tensor, result: Tensor) -> dict[str, float]:
    """What is measured on dark photos without a reference."""
    dark = shadows(image)
    lifted = luma(result[None])[0, 0][dark].mean().item()
    clipped = ((result >= 1) & (image < 1)).any(0).float().mean().item()
    return {
        "shadows": lifted,
        "newly clipped": 100 * clipped,
        "hue change": hue_change(image, result),
        "white": white_becomes(image, result),
        "noise": noise(result, dark) / max(noise(gamma_alike(image, dark, lifted), dark), 1e-4),
    }


def shadows(image: Tensor) -> Tensor:
    """The darkest third of the pixels: (H, W) bool."""
    light = luma(image[None])[0, 0]
    return light <= light.flatten().quantile(1 / 3)


def white_becomes(image: Tensor, result: Tensor) -> float:
    """Mean of 255 of what is white; NaN without any."""
    return 255 * result[:, (image >= WHITE).all(0)].mean().item()


def hue_change(image: Tensor, result: Tensor) -> float:
    """Mean angle in degrees between chroma before and after, weighted by both."""
    before, after = (torch.einsum("kc,chw->khw", torch.tensor(CHROMA), x) for x in (image, result))
    weight = before.norm(dim=0) * after.norm(dim=0)
    cross = before[0] * after[1] - before[1] * after[0]
    angle = torch.atan2(cross.abs(), (before * after).sum(0))
    return torch.rad2deg((angle * weight).sum() / weight.sum().clamp_min(1e-9)).item()


def noise(image: Tensor, where: Tensor) -> float:
    """Mean difference of luma to the mean of its 3 x 3 pixels, where it is flat: in the calmer half."""
    light = luma(image[None])
    rough = (light - F.avg_pool2d(light, 3, 1, 1, count_include_pad=False)).abs()[0, 0][where]
    return rough[rough <= rough.median()].mean().item()


def gamma_alike(image: Tensor, where: Tensor, mean: float) -> Tensor:
    """The image by the gamma that gives its luma this mean where told, found by bisection."""
    low, high = 0.05, 5.0
    for _ in range(20):
        gamma = (low * high) ** 0.5
        darker = luma(image[None] ** gamma)[0, 0][where].mean().item() < mean
        low, high = (low, gamma) if darker else (gamma, high)
    return to_tensor(to_uint8(image**gamma))


def summarise(scores: pd.DataFrame, methods: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means with bootstrap intervals of every method, as data and for readers; `best gamma` is chosen by column."""
    columns = [name for name in scores.columns if name not in ("method", "image")]
    cells: dict[str, dict[str, str]] = {}
    rows = []
    for method in (*methods, "best gamma"):
        for column in columns:
            found = interval(scores, method, column)
            if found is None:
                continue
            digits = DIGITS.get(column, 1)
            cell = f"{found.mean:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"
            cells.setdefault(method, {})[column] = cell
            row = {"method": method, "column": column, "mean": found.mean, "low": found.low, "high": found.high}
            rows.append(row | {"photos": found.images})
    shown = pd.DataFrame.from_dict(cells, orient="index", columns=columns)
    order = ["input", "best gamma", *methods[1:]]
    return pd.DataFrame(rows), shown.loc[order].fillna("").rename_axis("").reset_index()


def interval(scores: pd.DataFrame, method: str, column: str):
    """Mean and interval of a column; None if it was not measured."""
    if method == "best gamma":
        if column not in ("made backlit", "exposures", "ssim"):
            return None
        gammas = scores[scores["method"].str.startswith("gamma")]
        method = gammas.groupby("method")[column].mean().idxmax()
    values = scores.loc[scores["method"] == method, column].dropna().to_numpy()
    return paired_difference(values, np.zeros_like(values)) if len(values) else None


def sheet(methods: Mapping[str, Method], photos: Mapping[str, Tensor]) -> Figure:
    """Real photos in columns: as they are, and below by every method."""
    columns = [dict(results(methods, photo, name)) for name, photo in photos.items()]
    groups = [columns[start : start + COLUMNS] for start in range(0, len(columns), COLUMNS)]
    rows = [[column.get(name, column["input"]) for column in group] for group in groups for name in methods]
    return mosaic(rows, row_labels=list(methods) * len(groups))


def reduced(file: Path) -> Tensor:
    """A photo, reduced to REAL pixels if it is larger."""
    pixels = decode(file)
    scale = (REAL / (pixels.shape[0] * pixels.shape[1])) ** 0.5
    if scale < 1:
        size = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
    return to_tensor(pixels)


if __name__ == "__main__":
    main()
