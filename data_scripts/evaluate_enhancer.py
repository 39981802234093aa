"""Compare the shipped enhancer with others on photos that it was not trained with: a table and a contact sheet.

    python data_scripts/evaluate_enhancer.py --photos DIR... --exposures DIR --backlit DIR... --real DIR... \\
        [--checkpoint NAME=FILE] [--seeds FILE...] [--results NAME=FOLDER] [--sheet FILE...] [--half chosen] \\
        [--fill docs/enhancer.md --mark default]

--photos: folders of well-lit photos. Every eighth of them is held out of the training (photo_sets.py); the script makes
a pair of each, at one of three degrees of backlight. --exposures: dark/ and reference/ with the same scenes by name.
--backlit: folders of any photos; the script takes those that are backlit: the 90th percentile of luma is above 0.6 and
the mean luma of the darkest third below 0.15. --real: backlit and dark photos without references. --seeds: enhancers
that differ in their seed only; their mean has a row of its own. --sheet: photos for the contact sheet.

A hash of each photo's name puts it into one of two halves. Choose settings on the half `chosen` only; the half
`reported` is for the final figures. Writes reported.csv, .md and .tex, the same for chosen, and contact_sheet.jpg to
--output.

backlit, dark       how far the darkest third of the pixels is lifted: log2 of the ratio of mean luma, in stops, on
                    backlit photos (as above) and on all other photos of --exposures and --real
made backlit        PSNR of the pairs, dB
exposures           PSNR and SSIM of the exposures
newly clipped       pixels of backlit and dark photos in which a channel becomes white, %
hue change          mean angle between chroma before and after, weighted by chroma, on backlit and dark photos, degrees
white               what pixels of at least 254 in all channels become, on all photos, of 255
noise               in the shadows, as a multiple of the noise after a gamma that lifts them alike
itself              PSNR of a well-lit photo's result to the photo, dB
"""

import argparse
import hashlib
from collections.abc import Callable, Mapping, Sequence
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
SEED_ROW, MEAN_ROW = "seed ", "mean of the seeds"
WHITE = 254 / 255
CHROMA = ((-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))  # Cb and Cr of JPEG
DIGITS = {"ssim": 3, "backlit": 2, "dark": 2, "noise": 2, "made backlit": 2, "exposures": 2}
HALVES = ("chosen", "reported")  # settings are chosen on the first one, figures come from the second
BRIGHT = 0.6  # the 90th percentile of luma of a backlit photo is above it,
SHADOWS = 0.15  # and the mean luma of its darkest third below this one
BLACK = 1 / 255  # least luma whose lift is measured

Method = Callable[[Tensor, str], Tensor | None]  # an image (3, H, W) and its name -> what becomes of it, if known


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--photos", type=Path, nargs="+", required=True, help="folders of well-lit photos")
    options.add_argument("--exposures", type=Path, required=True, help="a folder with dark/ and reference/")
    options.add_argument("--backlit", type=Path, nargs="*", default=[], help="folders; the backlit photos are used")
    options.add_argument("--real", type=Path, nargs="*", default=[], help="folders of real backlit or dark photos")
    options.add_argument("--sheet", type=Path, nargs="*", default=[], help="photos of the contact sheet")
    options.add_argument("--half", choices=HALVES, help="measure this half of the photos only")
    options.add_argument("--checkpoint", action="append", default=[], metavar="NAME=FILE", help="also compare this one")
    options.add_argument("--seeds", type=Path, nargs="*", default=[], help="enhancers that differ in their seed only")
    options.add_argument("--results", action="append", default=[], metavar="NAME=FOLDER", help="results, by file stem")
    options.add_argument("--output", type=Path, default=Path("results/default"))
    options.add_argument("--fill", type=Path, help="also put the table between <!-- MARK --> marks there")
    options.add_argument("--mark", default="default", help="of --fill")
    given = options.parse_args()
    halves = [given.half] if given.half else HALVES
    methods = methods_of(given.checkpoint, given.results, given.seeds)
    held_out = {f"{file.parent.name}/{file.stem}": read_image(file) for file in within(halves, split(given.photos)[1])}
    exposures = {
        file.stem: (read_image(file), read_image(given.exposures / "reference" / file.name))
        for file in within(halves, list_images(given.exposures / "dark"))
    }
    real = {file.stem: reduced(file) for folder in given.real for file in within(halves, list_images(folder))}
    others = {file.stem: reduced(file) for folder in given.backlit for file in within(halves, list_images(folder))}
    backlit = {name: image for name, image in others.items() if is_backlit(image)}
    scores = measure(methods, held_out, exposures, real | backlit)
    for name in halves:
        table, shown = summarise(scores[scores["image"].map(half) == name], list(methods))
        write_table(table, shown, given.output, name)
        print(f"{name}\n\n{(given.output / f'{name}.md').read_text(encoding='utf-8')}")
    shown_methods = {name: method for name, method in methods.items() if not name.startswith(("gamma", SEED_ROW))}
    if given.sheet:
        pictures = {file.stem: reduced(file) for file in given.sheet}
        sheet(shown_methods, pictures).savefig(given.output / "contact_sheet.jpg", pil_kwargs={"quality": 85})
    if given.fill:
        fill_in(given.fill, {given.mark: (given.output / f"{halves[-1]}.md").read_text(encoding="utf-8")})


def half(name: str) -> str:
    """The half that a photo belongs to, by the SHA-256 of its name without the folder."""
    return HALVES[digest(name.rpartition("/")[2]) % 2]


def within(halves: Sequence[str], files: list[Path]) -> list[Path]:
    return [file for file in files if half(file.stem) in halves]


def digest(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16)


def methods_of(
    checkpoints: Sequence[str] = (), results: Sequence[str] = (), seeds: Sequence[Path] = ()
) -> dict[str, Method]:
    """Everything that is compared, by name."""
    methods: dict[str, Method] = {"input": lambda image, name: image}
    methods |= {f"gamma {gamma}": gamma_method(gamma) for gamma in GAMMAS}
    for name, folder in named_paths(tuple(results)).items():
        methods[name] = folder_method({file.stem: file for file in list_images(folder)})
    files = (
        named_paths(tuple(checkpoints))
        | {f"{SEED_ROW}{n}": file for n, file in enumerate(seeds)}
        | {OURS: SHIPPED_ENHANCER}
    )
    return methods | {name: network_method(load_enhancer(file)) for name, file in files.items()}


def gamma_method(gamma: float) -> Method:
    return lambda image, name: to_tensor(to_uint8(image**gamma))


def network_method(network: Enhancer) -> Method:
    return lambda image, name: to_tensor(enhance_pixels(network, to_uint8(image), Inference()))


def folder_method(files: Mapping[str, Path]) -> Method:
    return lambda image, name: read_image(files[name]) if name in files else None


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
    """Held-out photos made backlit, and as they are. The name decides the degree."""
    levels = list(SEVERITIES)
    return {
        name: (relight_photo(photo, name, levels[digest(name) // 2 % len(levels)], SEED)[0], photo)
        for name, photo in held_out.items()
    }


def dark_scores(image: Tensor, result: Tensor) -> dict[str, float]:
    """What is measured on backlit and dark photos without a reference."""
    dark = shadows(image)
    before, after = (luma(x[None])[0, 0][dark].mean().item() for x in (image, result))
    clipped = ((result >= 1) & (image < 1)).any(0).float().mean().item()
    return {
        "backlit" if is_backlit(image) else "dark": np.log2(max(after, BLACK) / max(before, BLACK)),
        "newly clipped": 100 * clipped,
        "hue change": hue_change(image, result),
        "white": white_becomes(image, result),
        "noise": noise(result, dark) / max(noise(gamma_alike(image, dark, after), dark), 1e-4),
    }


def is_backlit(image: Tensor) -> bool:
    """Whether a photo has bright parts and much of it in the shadows."""
    light = luma(image[None])[0, 0]
    return light.quantile(0.9).item() > BRIGHT and light[shadows(image)].mean().item() < SHADOWS


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
    """Mean difference of luma to the mean of its 3 x 3 pixels, in the calmer half of the pixels `where`."""
    light = luma(image[None])
    rough = (light - F.avg_pool2d(light, 3, 1, 1, count_include_pad=False)).abs()[0, 0][where]
    return rough[rough <= rough.median()].mean().item()


def gamma_alike(image: Tensor, where: Tensor, mean: float) -> Tensor:
    """The image by the gamma that gives the luma of the pixels `where` this mean, found by bisection."""
    low, high = 0.05, 5.0
    for _ in range(20):
        gamma = (low * high) ** 0.5
        darker = luma(image[None] ** gamma)[0, 0][where].mean().item() < mean
        low, high = (low, gamma) if darker else (gamma, high)
    return to_tensor(to_uint8(image**gamma))


def summarise(scores: pd.DataFrame, methods: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means with bootstrap intervals of every method, as data and for readers; `best gamma` is chosen by column."""
    columns = [name for name in scores.columns if name not in ("method", "image")]
    of_seeds = scores[scores["method"].str.startswith(SEED_ROW)]
    if len(of_seeds):
        mean = of_seeds.drop(columns="method").groupby("image", as_index=False).mean().assign(method=MEAN_ROW)
        scores, methods = pd.concat([scores, mean]), [*methods, MEAN_ROW]
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
