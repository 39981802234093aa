"""Train `tiny`, the small CLIP that ships with cliplit, on relit photos and captions about their light.

    python data_scripts/train_tiny_clip.py --photos DIR --photos DIR2 --output tiny_clip.safetensors

`tiny` is a stand-in to show and test the machinery without a download: it knows light, little else.
Two losses are added up:

* contrastive: photos under fourteen kinds and three degrees of light or fault, and captions that name them
  (identical captions are merged; other captions that would also be true are left out of the negatives);
* graded: P("backlit" rather than "well-lit") follows the distance to the well-lit photo, so that it keeps
  falling until the light is right and rises again after.

After 60 % of the iterations the statistics of batch normalisation are measured and frozen: the model is used
that way, and running averages lag behind the weights.

Every eighth photo of each folder (sorted by name) is held out for the evaluation. About ten minutes on two cores.
"""

import argparse
import copy
import csv
import json
import math
import os
import random
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from faults import ARTEFACTS, LIGHTS, illumination, lifted
from open_clip.model import CLIP
from PIL import Image
from safetensors.torch import save_file
from torch import Generator, Tensor
from torchvision.transforms.functional import pil_to_tensor
from tqdm import tqdm

from cliplit.data.relight import Backlight, backlit, uniform


@dataclass(frozen=True)
class Settings:
    """Settings of the model and its training; stored in the file."""

    iterations: int = 1200
    seed: int = 0
    image_size: int = 64  # pixels, of the square input
    width: int = 16  # channels of the ResNet's stem
    embed_dim: int = 128
    stored_size: int = 128  # pixels, short side of the photos in memory
    crop_min: float = 0.45  # least side of a random crop, as a share of the photo's short side
    well_lit: int = 24  # images per iteration
    backlit: int = 20  # images per iteration
    others: int = 4  # images per iteration of every other kind
    settled: float = 0.6  # share of the training after which batch normalisation is frozen
    named: float = 0.25  # share of captions that name the photo's class, where it has one
    positions: int = 24  # text positions trained
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    scale: float = 10.0  # first logit scale
    scale_max: float = 20.0  # largest logit scale
    graded: float = 2.0  # weight of the graded loss
    error_unit: float = 0.08  # RMS error (image range 1) that gives P(backlit) = 1 - 1/e
    average: float = 0.997  # decay of the moving average of the weights
    holdout: int = 8  # every so many photos of a folder, sorted by name, is held out


MEAN = (0.48145466, 0.4578275, 0.40821073)  # OpenAI CLIP's, so that one preprocessing fits all
STD = (0.26862954, 0.26130258, 0.27577711)
SIZES = (64, 80, 96, 128)  # pixels; photos are relit at one of these, then resized to the model's input

WELL_LIT = (
    "a well-lit photo",
    "a well lit photo",
    "a photo in normal light",
    "a properly exposed photo",
    "an evenly lit photo",
    "a bright photo in natural light",
    "a good photo with balanced light",
)
WORDINGS = {  # {0} takes the degree; what follows " of a" is the class
    "backlit": (
        "a {0} backlit photo",
        "a photo taken {0} against the light",
        "a photo with a {0} dark foreground",
        "a {0} backlit picture with a dark subject",
    ),
    "underexposed": ("a {0} underexposed photo", "a {0} dark photo", "a photo in {0} low light"),
    "overexposed": ("a {0} overexposed photo", "a photo that is {0} too bright"),
    "washed_out": ("a {0} washed out photo", "a {0} hazy photo", "a photo with {0} low contrast"),
    "tinted": ("a {0} tinted photo", "a photo with a {0} wrong colour cast"),
    "half_lifted": ("a {0} backlit photo, partly corrected", "a photo with {0} dark shadows"),
    "over_lifted": ("a photo with {0} overlifted shadows", "a {0} overprocessed photo"),
    "blown_out": ("a photo with a {0} blown out background", "a photo with {0} clipped highlights"),
    "greyed": ("a {0} flat photo without light and shade", "a {0} greyed photo"),
    "halo": ("a photo with {0} halos around its edges", "a photo with {0} glowing rims"),
    "rippled": ("a photo with {0} ripples", "a photo with a {0} striped or chequered pattern"),
    "patchy": ("a {0} patchy photo", "a photo with {0} uneven light and stains"),
    "noisy": ("a {0} noisy photo", "a {0} grainy photo"),
}
BAD_LIGHT = ("a badly lit photo", "a photo in bad light", "an unevenly lit photo")
FAULTY = ("a badly enhanced photo", "a photo with artefacts")
DEGREES = ("slightly", "moderately", "strongly")
USER_WORDS = (
    "x X backlit back-lit backlight light lit dark darkness dim gloomy night shadow shadows silhouette foreground "
    "background underexposed overexposed bright brightness normal-light normal well-lit well lit daylight "
    "sunny clear natural image photo photograph picture low high quality good bad subject face person scene "
    "exposure exposed contrast against the sun in of with and a an"
)


@dataclass(frozen=True)
class Caption:
    """A text and what it claims; None claims nothing."""

    text: str
    kinds: frozenset
    degree: int | None = None
    name: str | None = None

    def fits(self, kind: str, degree: int, name: str | None) -> bool:
        return kind in self.kinds and self.degree in (None, degree) and self.name in (None, name)


def draw_caption(kind: str, degree: int, name: str | None, named: float, rng: random.Random) -> Caption:
    """A caption that is true of an image of this kind (`relit` counts as well-lit)."""
    said_name = name if name and rng.random() < named else None
    suffix = f" of a {said_name}" if said_name else ""
    if kind in ("well_lit", "relit"):
        return Caption(rng.choice(WELL_LIT) + suffix, frozenset({"well_lit", "relit"}), None, said_name)
    if rng.random() < 0.15:
        faults = frozenset(ARTEFACTS)
        kinds, wordings = (faults, FAULTY) if kind in faults else (frozenset(LIGHTS) - {"well_lit"}, BAD_LIGHT)
        return Caption(rng.choice(wordings) + suffix, kinds, None, said_name)
    said_degree = degree if rng.random() < 0.5 else None
    word = "" if said_degree is None else DEGREES[said_degree]
    text = " ".join(rng.choice(WORDINGS[kind]).format(word).split())
    return Caption(text + suffix, frozenset({kind}), said_degree, said_name)


# Photos


def read_photos(folder: Path, size: int) -> tuple[list[Tensor], list[str | None]]:
    """Square uint8 crops ``(3, size, size)`` of a folder's photos, class names from `n01234567_name` files."""
    crops, names = [], []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp")):
        image = Image.open(path)
        image.draft("RGB", (2 * size, 2 * size))
        image = image.convert("RGB")
        scale = size / min(image.size)
        image = image.resize([max(size, round(side * scale)) for side in image.size], Image.Resampling.LANCZOS)
        left, top = ((side - size) // 2 for side in image.size)
        crops.append(pil_to_tensor(image.crop((left, top, left + size, top + size))))
        synset, _, name = path.stem.partition("_")
        names.append(name.replace("_", " ") if name and synset[0] == "n" and synset[1:].isdigit() else None)
    if not crops:
        raise ValueError(f"no images in {folder}")
    return crops, names


def load_folders(folders: list[Path], settings: Settings) -> tuple[Tensor, list, Tensor, list]:
    """Training photos ``(N, 3, S, S)`` uint8 with class names, and the held-out ones likewise."""
    parts = {True: ([], []), False: ([], [])}
    for folder in folders:
        crops, names = read_photos(folder, settings.stored_size)
        for i, (crop, name) in enumerate(zip(crops, names, strict=True)):
            images, labels = parts[i % settings.holdout == 0]
            images.append(crop)
            labels.append(name)
    (train, train_names), (held, held_names) = parts[False], parts[True]
    return torch.stack(train), train_names, torch.stack(held), held_names


def random_crops(photos: Tensor, size: int, least: float, generator: Generator) -> Tensor:
    """Random square crops, flipped at random, resized without antialiasing: ``(N, 3, size, size)`` in [0, 1]."""
    n = len(photos)
    side = uniform(n, least, 1, generator).view(n, 1)
    shift = (1 - side) * (2 * torch.rand(n, 2, generator=generator) - 1)
    flip = torch.where(torch.rand(n, 1, generator=generator) < 0.5, -side, side)
    zero = torch.zeros(n, 1)
    theta = torch.cat([flip, zero, shift[:, :1], zero, side, shift[:, 1:]], 1).view(n, 2, 3)
    grid = F.affine_grid(theta, (n, 3, size, size), align_corners=False)
    return F.grid_sample(photos.float() / 255, grid, padding_mode="border", align_corners=False).clamp(0, 1)


def seen(images: Tensor, size: int, generator: Generator | None = None) -> Tensor:
    """Resized as CLIP-LIT does it, without antialiasing; with a generator also noisy, by 0 to 0.02 each.

    Without the noise the model tells the kinds of light apart by their noise and rounding, not by the light.
    """
    images = F.interpolate(images, (size, size), mode="bilinear", align_corners=False)
    if generator is None:
        return images
    noise = torch.randn(images.shape, generator=generator) * uniform(len(images), 0, 0.02, generator)
    return (images + noise).clamp(0, 1)


# Model


def model_config(settings: Settings) -> dict:
    """Keyword arguments of `open_clip.model.CLIP`."""
    vision = {"layers": [1, 1, 1, 1], "width": settings.width, "image_size": settings.image_size, "head_width": 64}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 3}
    return {"embed_dim": settings.embed_dim, "vision_cfg": vision, "text_cfg": text, "quick_gelu": False}


def normalised(images: Tensor) -> Tensor:
    """[0, 1] to CLIP's input range, channels last."""
    mean, std = (images.new_tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def encode_images(model: CLIP, images: Tensor, fast: bool = True) -> Tensor:
    """Unit features ``(N, D)`` of images ``(N, 3, S, S)`` in [0, 1]; `fast` computes in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16, enabled=fast):
        features = model.visual(normalised(images))
    return F.normalize(features.float(), dim=-1)


def encode_tokens(model: CLIP, tokens: Tensor, positions: int) -> Tensor:
    """Unit features ``(N, D)`` of token rows; attention is causal, so positions after the end do not matter."""
    tokens = tokens[:, :positions]
    x = model.token_embedding(tokens) + model.positional_embedding[:positions]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:positions, :positions]))
    return F.normalize(x[torch.arange(len(x)), tokens.argmax(-1)] @ model.text_projection, dim=-1)


# Losses


def contrastive(images: Tensor, texts: Tensor, target: Tensor, fits: Tensor, scale: Tensor) -> Tensor:
    """CLIP's loss with merged captions: images ``(N, D)``, texts ``(K, D)``, target ``(N,)``, fits ``(N, K)`` bool.

    A caption that fits an image without being its own is no negative for it.
    """
    own = F.one_hot(target, len(texts)).bool()
    logits = (scale * images @ texts.T).masked_fill(fits & ~own, -torch.inf)
    by_image = F.cross_entropy(logits, target)
    chance = logits.log_softmax(0).masked_fill(~own, 0)
    return by_image / 2 - (chance.sum(0) / own.sum(0)).mean() / 2


def darkness(images: Tensor, dark: Tensor, good: Tensor, scale: Tensor) -> Tensor:
    """Logit of "backlit" against "well-lit" ``(N,)``; dark, good: unit features ``(D,)`` or ``(M, D)`` (averaged)."""
    return scale * (images @ (dark - good).reshape(-1, images.shape[1]).mean(0))


def badness(images: Tensor, references: Tensor, unit: float) -> Tensor:
    """Target for P(backlit) ``(N,)`` in [0, 1): from the RMS difference to the well-lit photo at half size."""
    error = F.avg_pool2d(images - references, 2).square().mean((1, 2, 3)).sqrt()
    return 1 - torch.exp(-error / unit)


# Training


def relit(kind: str, images: Tensor, generator: Generator, strength: Tensor) -> Tensor:
    """Images ``(N, 3, S, S)`` under a kind of light; `relit` is backlit, then lifted to where it was."""
    if kind == "relit":
        return lifted(images, generator, 0.9 + 0.2 * strength)
    if kind == "backlit":
        return backlit(images, generator, Backlight(stops_min=1.3, stops_max=4.5), strength)
    return {**LIGHTS, **ARTEFACTS}[kind](images, generator, strength)


@torch.no_grad()
def settle(model: CLIP, batches: Iterable[Tensor]) -> None:
    """Measure the statistics of batch normalisation over all batches, then freeze them: evaluation mode.

    Running averages lag behind the weights, and light is just what normalising a batch by itself hides, so
    the model has to learn the last part as it will be used.
    """
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    model.train()
    for images in batches:
        encode_images(model, images)
    model.eval()


def train(photos: Tensor, names: list, settings: Settings, log: Path) -> CLIP:
    """The model with averaged weights, in evaluation mode."""
    torch.manual_seed(settings.seed)  # initialisation; everything later draws from its own generator
    model = CLIP(**model_config(settings)).train()
    model.visual.to(memory_format=torch.channels_last)
    torch.nn.init.constant_(model.logit_scale, math.log(settings.scale))
    averaged = copy.deepcopy(model).eval().requires_grad_(False)
    generator, rng = Generator().manual_seed(settings.seed + 1), random.Random(settings.seed + 2)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": rest, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, settings.iterations, pct_start=0.1, cycle_momentum=False
    )
    counts = {kind: settings.others for kind in (*LIGHTS, *ARTEFACTS, "relit")}
    counts |= {"well_lit": settings.well_lit, "backlit": settings.backlit, "relit": 2 * settings.others}
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    good_tokens, dark_tokens = (
        open_clip.tokenize([" ".join(t.format("").split()) for t in texts]) for texts in (WELL_LIT, WORDINGS["backlit"])
    )
    tokenise = {}

    def some(n: int) -> tuple[Tensor, list]:
        chosen = torch.randint(len(photos), (n,), generator=generator)
        size = SIZES[torch.randint(len(SIZES), (1,), generator=generator)]
        return random_crops(photos[chosen], size, settings.crop_min, generator), [names[i] for i in chosen]

    def batch() -> tuple[Tensor, Tensor, Tensor, list]:
        references, labels = some(len(kinds))
        strength = uniform(len(kinds), 0, 1, generator)
        sizes = list(counts.values())
        parts = zip(counts, references.split(sizes), strength.split(sizes), strict=True)
        images = torch.cat([relit(kind, r, generator, s) for kind, r, s in parts])
        images, references = seen(images, settings.image_size, generator), seen(references, settings.image_size)
        return images, references, strength, labels

    settled = round(settings.settled * settings.iterations)

    with log.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["iteration", "contrastive", "graded", "prototype", "scale"])
        for iteration in tqdm(range(settings.iterations), mininterval=5):
            if iteration == settled:
                settle(model, (batch()[0] for _ in range(20)))
                averaged.load_state_dict(model.state_dict())
            images, references, strength, labels = batch()
            degrees = (strength.flatten() * len(DEGREES)).long().tolist()
            captions = [draw_caption(*what, settings.named, rng) for what in zip(kinds, degrees, labels, strict=True)]
            unique = {caption.text: caption for caption in captions}
            place = {text: i for i, text in enumerate(unique)}
            target = torch.tensor([place[caption.text] for caption in captions])
            fits = torch.tensor(
                [[c.fits(*what) for c in unique.values()] for what in zip(kinds, degrees, labels, strict=True)]
            )
            for text in unique:
                if text not in tokenise:
                    tokenise[text] = open_clip.tokenize([text])[0]

            tokens = torch.cat([torch.stack([tokenise[text] for text in unique]), good_tokens, dark_tokens])
            texts = encode_tokens(model, tokens, settings.positions)
            texts, good, dark = texts.split([len(unique), len(good_tokens), len(dark_tokens)])
            good = good[torch.randperm(len(good), generator=generator)[:3]]
            dark = dark[torch.randperm(len(dark), generator=generator)[:3]]
            scale = model.logit_scale.exp()

            goal = badness(images, references, settings.error_unit)
            features = encode_images(model, images)
            contrast = contrastive(features, texts, target, fits, scale)
            graded = F.binary_cross_entropy_with_logits(darkness(features, dark, good, scale), goal)
            is_good, is_dark = (torch.tensor([kind == k for kind in kinds]) for k in ("well_lit", "backlit"))
            prototypes = [F.normalize(features[chosen].mean(0), dim=0) for chosen in (is_dark, is_good)]
            prototype = F.binary_cross_entropy_with_logits(darkness(features, *prototypes, scale), goal)
            loss = contrast + settings.graded * (graded + 0.5 * prototype)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(settings.scale_max))
                decay = min(settings.average, (1 + iteration) / (10 + iteration))
                for kept, new in zip(averaged.state_dict().values(), model.state_dict().values(), strict=True):
                    kept.lerp_(new, 1 - decay) if kept.is_floating_point() else kept.copy_(new)
            row = [contrast, graded, prototype, scale]
            writer.writerow([iteration, *(f"{x.item():.4f}" for x in row)])
            if iteration % 50 == 0:
                file.flush()
    return averaged


# Evaluation on held-out photos


def prompt_pair(model: CLIP, positions: int) -> tuple[Tensor, Tensor]:
    """Unit features ``(D,)`` of the two prompts that the evaluation uses."""
    tokens = open_clip.tokenize(["a backlit photo", "a well-lit photo"])
    return tuple(encode_tokens(model, tokens, positions))


def auc(high: Tensor, low: Tensor) -> float:
    """Chance that a random one of `high` exceeds a random one of `low`."""
    return (high[:, None] > low[None]).double().mean().item()


def evaluate(model: CLIP, held: Tensor, settings: Settings, real: Tensor | None = None, pairs: int = 32) -> dict:
    """Held-out figures: classification, scores along re-lifting, and scores by kind of light.

    held, real: uint8 ``(N, 3, S, S)``: well-lit photos that are relit here; photos really dark or backlit.
    """
    generator = Generator().manual_seed(1234)
    references = held.float() / 255
    small = lambda x: F.interpolate(x, (settings.image_size,) * 2, mode="bilinear")
    with torch.no_grad():
        bad, good = prompt_pair(model, settings.positions)
        scale = model.logit_scale.exp()
        score = lambda x: darkness(encode_images(model, small(x), False), bad, good, scale)
        dark = backlit(references, generator)
        high, low = score(dark), score(references)
        figures = {
            "images": len(held),
            "scale": scale.item(),
            "accuracy": ((high > 0).double().mean().item() + (low <= 0).double().mean().item()) / 2,
            "auc": auc(high, low),
            "p_backlit": high.sigmoid().mean().item(),
            "p_well_lit": low.sigmoid().mean().item(),
        }
        if real is not None:
            figures["auc_real"] = auc(score(real.float() / 255), low)
        some = references[:: max(1, len(references) // pairs)][:pairs]
        dark = backlit(some, generator)
        ideal = illumination(dark, some)
        figures["p_along_relifting"] = {
            f"{t:.2f}": score((dark / ideal**t).clamp(0, 1)).sigmoid().mean().item()
            for t in (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2)
        }
        figures["p_by_kind"] = {
            kind: score(relit(kind, some, generator, torch.full((len(some), 1, 1, 1), 0.5))).sigmoid().mean().item()
            for kind in (*LIGHTS, *ARTEFACTS, "relit")
        }
    return figures


def rounded(x):
    """Floats in nested containers to four digits after the point."""
    if isinstance(x, dict):
        return {k: rounded(v) for k, v in x.items()}
    if isinstance(x, list):
        return [rounded(v) for v in x]
    return round(x, 4) if isinstance(x, float) else x


# File


def used_ids(names: list) -> Tensor:
    """Ids of all tokens that captions and likely user prompts contain, sorted ``(K,)``."""
    texts = [w.format(" ".join(DEGREES)) for ws in WORDINGS.values() for w in ws]
    texts += [*WELL_LIT, *BAD_LIGHT, *FAULTY, *USER_WORDS.split(), *(f"of a {name}" for name in names if name)]
    return torch.unique(open_clip.tokenize(texts))


def save(model: CLIP, output: Path, names: list, metadata: dict) -> None:
    """Write the weights in half precision, token rows in use only, under a temporary name first."""
    tensors = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    ids = used_ids(names)
    tensors["token_embedding.ids"] = ids
    tensors["token_embedding.rows"] = tensors.pop("token_embedding.weight")[ids]
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_suffix(".partial")
    save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, metadata)
    temporary.chmod(0o644)
    os.replace(temporary, output)


def package_version() -> str:
    try:
        return version("cliplit")
    except PackageNotFoundError:
        return "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, action="append", required=True, help="folder of photos; repeatable")
    parser.add_argument("--output", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument(
        "--real", type=Path, action="append", default=[], help="really dark or backlit photos, to score"
    )
    for field in fields(Settings):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    arguments = vars(parser.parse_args())
    folders, real, output = (arguments.pop(name) for name in ("photos", "real", "output"))
    settings = Settings(**arguments)

    photos, names, held, _ = load_folders(folders, settings)
    real = [crop for folder in real for crop in read_photos(folder, settings.stored_size)[0]]
    start = time.time()
    model = train(photos, names, settings, output.with_suffix(".csv"))
    minutes = (time.time() - start) / 60
    figures = rounded(
        evaluate(model, held, settings, torch.stack(real) if real else None) | {"training_minutes": minutes}
    )
    preprocess = {"mean": MEAN, "std": STD, "image_size": settings.image_size}
    save(
        model,
        output,
        names,
        {
            "model_cfg": json.dumps(model_config(settings)),
            "preprocess": json.dumps(preprocess),
            "settings": json.dumps(asdict(settings)),
            "training_data": f"{len(photos)} photos of the folders {', '.join(f.name for f in folders)}, relit by "
            f"cliplit.data.relight; every {settings.holdout}th photo by name was held out.",
            "evaluation": json.dumps(figures),
            "package_version": package_version(),
            "license": "MIT",
        },
    )
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
