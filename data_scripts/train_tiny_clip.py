"""Train `tiny2`, a small CLIP, on relit photos and captions about their light (docs/tiny.md).

    python data_scripts/train_tiny_clip.py PHOTOS... --output tiny2.safetensors [--work runs/tiny]

The model is a stand-in for CLIP that needs no download. It knows light, and little else. The loss is a sum of two:

* contrastive: photos under fifteen kinds and three degrees of light or fault, and captions that name them.
  Identical captions are merged, and other captions that are also true do not count as negatives.
* graded: the odds of "backlit" against "well-lit" should equal the distance to the well-lit photo, in units of
  `error_unit`. So the odds fall until the light is right, and rise again beyond it.

After the share `settled` of the iterations, the statistics of batch normalisation are measured and frozen, because the
model is used in this state, and running averages lag behind the weights. From then on the model also sees results of
small enhancement networks on dark photos. These rivals are trained to please the model, and so find errors that it does
not see. A new rival starts regularly, so that the model sees results of early and late training.

Every eighth photo of each folder is held out for the evaluation. Training resumes where it stopped.
"""

import argparse
import copy
import json
import math
import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from faults import ARTEFACTS, LIGHTS, illumination, relit
from open_clip.model import CLIP
from photo_sets import HELD_OUT, described, split
from safetensors.torch import save
from torch import Generator, Tensor, nn
from tqdm import tqdm

import cliplit
from cliplit.data.relight import backlit, uniform
from cliplit.engine.interrupts import interrupts
from cliplit.engine.loop import Loop, move_average
from cliplit.engine.parts import Part
from cliplit.engine.randomness import generator
from cliplit.files.atomic import write_bytes
from cliplit.files.tensors import read_image, to_uint8
from cliplit.method.clip import OPENAI_MEAN, OPENAI_STD
from cliplit.method.enhancer import Enhancer, divide
from cliplit.settings import Backlight


@dataclass(frozen=True)
class Settings:
    """Settings of the model and its training, stored in its file."""

    iterations: int = 1200
    seed: int = 0
    image_size: int = 96  # pixels, side of the square input
    width: int = 20  # channels of the ResNet's stem
    embed_dim: int = 128
    stored_size: int = 256  # pixels, side of the photos in memory
    crop_min: float = 0.4  # least side of a random crop, as a share of the photo's side
    well_lit: int = 20  # images per iteration
    backlit: int = 16  # images per iteration
    dark: int = 8  # underexposed images per iteration, and as many that are also backlit
    others: int = 3  # images per iteration of every other kind
    settled: float = 0.3  # share of the training after which batch normalisation is frozen
    positions: int = 24  # number of text positions that are trained
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    scale: float = 10.0  # initial logit scale
    scale_max: float = 20.0  # largest logit scale
    graded: float = 6.0  # weight of the graded loss
    error_unit: float = 0.1  # RMS error (image range 1) at which P(backlit) = 1/2
    average: float = 0.995  # decay of the moving average of the weights
    rival_width: int = 12  # channels of the rival networks
    rival_size: int = 64  # pixels, longer side of the images for which they predict maps
    rival_images: int = 16  # images per iteration
    rival_rate: float = 1e-3  # learning rate of Adam
    rival_exponents: tuple[float, float] = (0.5, 1.6)  # range of random exponents on their maps, for variety
    generation: int = 120  # iterations of a rival before a new one starts


THREADS = 2  # results depend on this number
DARK = Backlight(stops_min=0.0, stops_max=4.5, overall=True)  # the light of the rivals' inputs
SIZES = (96, 112, 128)  # pixels; photos are relit at one of these sizes, then resized to the model's input

WELL_LIT = (
    "a well-lit photo",
    "a well lit photo",
    "a photo in normal light",
    "a properly exposed photo",
    "an evenly lit photo",
    "a bright photo in natural light",
    "a good photo with balanced light",
)
WORDINGS = {  # {0} stands for the degree
    "backlit": (
        "a {0} backlit photo",
        "a photo taken {0} against the light",
        "a photo with a {0} dark foreground",
        "a {0} backlit picture with a dark subject",
    ),
    "underexposed": ("a {0} underexposed photo", "a {0} dark photo", "a photo in {0} low light"),
    "dim": ("a {0} dark and backlit photo", "a photo taken {0} against the light in low light"),
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
    """A text and its claims about light. None means no claim."""

    text: str
    kinds: frozenset
    degree: int | None = None

    def fits(self, kind: str, degree: int) -> bool:
        return kind in self.kinds and self.degree in (None, degree)


def draw_caption(kind: str, degree: int, rng: random.Random) -> Caption:
    """A caption that is true of an image of this kind (`relit` counts as well-lit)."""
    if kind in ("well_lit", "relit"):
        return Caption(rng.choice(WELL_LIT), frozenset({"well_lit", "relit"}))
    if rng.random() < 0.15:
        faults = frozenset(ARTEFACTS)
        kinds, wordings = (faults, FAULTY) if kind in faults else (frozenset(LIGHTS) - {"well_lit"}, BAD_LIGHT)
        return Caption(rng.choice(wordings), kinds)
    said_degree = degree if rng.random() < 0.5 else None
    return Caption(worded(rng.choice(WORDINGS[kind]), said_degree), frozenset({kind}), said_degree)


def worded(wording: str, degree: int | None = None) -> str:
    """A wording with or without its degree."""
    word = "" if degree is None else DEGREES[degree]
    return " ".join(wording.format(word).split())


@cache
def tokens_of(text: str) -> Tensor:
    return open_clip.tokenize([text])[0]


# Photos


def read_photos(files: list[Path], size: int) -> Tensor:
    """Photos as squares ``(N, 3, size, size)``, uint8."""
    return torch.stack(
        [torch.from_numpy(to_uint8(read_image(file, size))).movedim(-1, 0) for file in tqdm(files, "photos")]
    )


def random_crops(photos: Tensor, size: int, least: float, random: Generator) -> Tensor:
    """Random square crops, randomly flipped and resized: ``(N, 3, size, size)`` in [0, 1]."""
    n = len(photos)
    side = uniform(n, least, 1, random).view(n, 1)
    shift = (1 - side) * (2 * torch.rand(n, 2, generator=random) - 1)
    flip = torch.where(torch.rand(n, 1, generator=random) < 0.5, -side, side)
    zero = torch.zeros(n, 1)
    theta = torch.cat([flip, zero, shift[:, :1], zero, side, shift[:, 1:]], 1).view(n, 2, 3)
    grid = F.affine_grid(theta, (n, 3, size, size), align_corners=False)
    return F.grid_sample(photos.float() / 255, grid, padding_mode="border", align_corners=False).clamp(0, 1)


def seen(images: Tensor, size: int, random: Generator | None = None) -> Tensor:
    """Resize like CLIP-LIT, without antialiasing. With a generator, add noise of 0 to 0.02 to each image.

    Without this noise, the model would recognise kinds of light by their noise and rounding instead of the light.
    """
    images = F.interpolate(images, (size, size), mode="bilinear", align_corners=False)
    if random is None:
        return images
    noise = torch.randn(images.shape, generator=random) * uniform(len(images), 0, 0.02, random)
    return (images + noise).clamp(0, 1)


@dataclass(frozen=True)
class Batch:
    """Images ``(N, 3, S, S)`` in [0, 1] under several kinds of light, and the well-lit photos they are made from."""

    kinds: list[str]
    images: Tensor
    references: Tensor
    strength: Tensor  # (N, 1, 1, 1) in [0, 1]

    @property
    def degrees(self) -> list[int]:
        """Index of the degree, from slight to strong."""
        return (self.strength.flatten() * len(DEGREES)).long().tolist()

    def of(self, *kinds: str) -> Tensor:
        """Whether each image is of one of these kinds: (N,) bool."""
        return torch.tensor([kind in kinds for kind in self.kinds])


def draw_batch(photos: Tensor, settings: Settings, *keys: object) -> Batch:
    """A batch of all kinds. The keys seed all random draws."""
    random = generator(settings.seed, "batch", *keys)
    counts = {kind: settings.others for kind in (*LIGHTS, *ARTEFACTS)}
    counts |= {"well_lit": settings.well_lit, "backlit": settings.backlit, "relit": 2 * settings.others}
    counts |= {"underexposed": settings.dark, "dim": settings.dark}
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    chosen = torch.randint(len(photos), (len(kinds),), generator=random)
    size = SIZES[torch.randint(len(SIZES), (1,), generator=random)]
    references = random_crops(photos[chosen], size, settings.crop_min, random)
    strength = uniform(len(kinds), 0, 1, random)
    sizes = list(counts.values())
    parts = zip(counts, references.split(sizes), strength.split(sizes), strict=True)
    images = torch.cat([relit(kind, part, random, degree) for kind, part, degree in parts])
    return Batch(kinds, images, references, strength)


# Model


def model_config(settings: Settings) -> dict:
    """Keyword arguments of `open_clip.model.CLIP`."""
    vision = {"layers": [1, 1, 1, 1], "width": settings.width, "image_size": settings.image_size, "head_width": 64}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 3}
    return {"embed_dim": settings.embed_dim, "vision_cfg": vision, "text_cfg": text, "quick_gelu": False}


def normalised(images: Tensor) -> Tensor:
    """Images from [0, 1] to CLIP's input range, channels last."""
    mean, std = (images.new_tensor(v).view(3, 1, 1) for v in (OPENAI_MEAN, OPENAI_STD))
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def encode_images(model: CLIP, images: Tensor) -> Tensor:
    """Unit features ``(N, D)`` of images ``(N, 3, S, S)`` in [0, 1]."""
    return F.normalize(model.visual(normalised(images)), dim=-1)


def encode_tokens(model: CLIP, tokens: Tensor, positions: int) -> Tensor:
    """Unit features ``(N, D)`` of token rows. Attention is causal, so positions after the end token do not matter."""
    tokens = tokens[:, :positions]
    x = model.token_embedding(tokens) + model.positional_embedding[:positions]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:positions, :positions]))
    return F.normalize(x[torch.arange(len(x)), tokens.argmax(-1)] @ model.text_projection, dim=-1)


def contrastive(images: Tensor, texts: Tensor, target: Tensor, fits: Tensor, scale: Tensor) -> Tensor:
    """CLIP's loss with merged captions: images ``(N, D)``, texts ``(K, D)``, target ``(N,)``, fits ``(N, K)`` bool.

    Another caption that fits an image is not a negative for it.
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
    """Target for P(backlit) ``(N,)`` in [0, 1). Its odds are the RMS difference to the well-lit photo at half size."""
    error = F.avg_pool2d(images - references, 2).square().mean((1, 2, 3)).sqrt()
    return error / (error + unit)


# Training


class Learning(nn.Module):
    """The state of training: the model, the moving average of its weights, and the rival network."""

    def __init__(self, settings: Settings):
        super().__init__()
        torch.manual_seed(settings.seed)  # for the initial weights; all later draws use their own generators
        self.settings = settings
        self.model = CLIP(**model_config(settings))
        self.model.visual.to(memory_format=torch.channels_last)
        nn.init.constant_(self.model.logit_scale, math.log(settings.scale))
        self.averaged = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.rival = Enhancer(settings.rival_width, max_illumination=1.0, longer_side=settings.rival_size)
        self.rival.initialize(settings.seed)

    def optimizer(self) -> torch.optim.Optimizer:
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        rest = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.settings.weight_decay},
            {"params": rest},
            {"params": list(self.rival.parameters()), "lr": self.settings.rival_rate},
        ]
        return torch.optim.AdamW(groups, lr=self.settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)

    @torch.no_grad()
    def average(self, iteration: int) -> None:
        """Move the average of the weights towards the model."""
        self.model.logit_scale.clamp_(0, math.log(self.settings.scale_max))
        move_average(self.averaged.state_dict(), self.model.state_dict(), self.settings.average, iteration)

    @torch.no_grad()
    def settle(self, batches: Iterable[Batch]) -> None:
        """Measure the statistics of batch normalisation over all batches, and restart the average of the weights.

        Running averages lag behind the weights, and normalising each batch by itself hides its light. So the last part
        of training uses fixed statistics, like the finished model.
        """
        norms = [module for module in self.model.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # cumulative average
        for batch in batches:
            encode_images(self.model, seen(batch.images, self.settings.image_size))
        self.averaged.load_state_dict(self.model.state_dict())


def rate(iteration: int, settings: Settings) -> float:
    """Learning rate: it rises over the first tenth of training, then falls along a cosine."""
    done = iteration / settings.iterations
    factor = done / 0.1 if done < 0.1 else (1 + math.cos(math.pi * (done - 0.1) / 0.9)) / 2
    return settings.learning_rate * max(factor, 0.01)


def train(photos: Tensor, settings: Settings, folder: Path) -> CLIP:
    """The model with averaged weights, in evaluation mode."""
    learning = Learning(settings)
    optimizer = learning.optimizer()
    settled = round(settings.settled * settings.iterations)
    loop = Loop(folder, Part("tiny", settings.iterations), learning, optimizer)
    with interrupts() as asked:
        for iteration in loop.until(asked):
            for group in optimizer.param_groups[:2]:
                group["lr"] = rate(iteration, settings)
            if iteration == settled:
                learning.settle(draw_batch(photos, settings, "settle", n) for n in range(20))
            learning.model.train(iteration < settled)
            batch = draw_batch(photos, settings, iteration)
            if iteration >= settled and (iteration - settled) % settings.generation == 0:
                learning.rival.initialize(settings.seed + iteration)
                for parameter in learning.rival.parameters():
                    optimizer.state.pop(parameter, None)
            views = [(batch.images, batch.references)]
            pleasing = torch.zeros(())
            if iteration >= settled:
                results, references, pleasing = rival_results(learning, batch, iteration)
                views.append((results, references))
            loss, terms = model_losses(learning.model, batch, views, settings, iteration)
            loop.step(loss, pleasing, **terms)
            learning.average(iteration)
    return learning.averaged


def rival_results(learning: Learning, batch: Batch, iteration: int) -> tuple[Tensor, Tensor, Tensor]:
    """Results of the rival on dark images (detached), their references, and the loss of the rival."""
    settings = learning.settings
    random = generator(settings.seed, "rival", iteration)
    dark = batch.of("backlit", "underexposed", "dim", "well_lit").nonzero().flatten()
    chosen = dark[torch.randperm(len(dark), generator=random)[: settings.rival_images]]
    images = batch.images[chosen]
    maps = learning.rival(images, padding="zeros")
    features = encode_images(learning.averaged, seen(divide(images, maps), settings.image_size))
    dark, good = prompt_pair(learning.averaged, settings.positions)
    pleasing = darkness(features, dark, good, learning.averaged.logit_scale.exp()).sigmoid().mean()
    exponents = uniform(len(chosen), *settings.rival_exponents, random)
    results = divide(images, maps.detach().clamp_min(0.01) ** exponents)
    return results, batch.references[chosen], pleasing


def model_losses(
    model: CLIP, batch: Batch, views: list[tuple[Tensor, Tensor]], settings: Settings, iteration: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Contrastive and graded loss. views: images and references, starting with the batch, which has captions."""
    rng = random.Random(f"{settings.seed} {iteration}")
    noise = generator(settings.seed, "noise", iteration)
    captions = [draw_caption(kind, degree, rng) for kind, degree in zip(batch.kinds, batch.degrees, strict=True)]
    unique = {caption.text: caption for caption in captions}
    place = {text: i for i, text in enumerate(unique)}
    target = torch.tensor([place[caption.text] for caption in captions])
    fits = torch.tensor(
        [
            [caption.fits(kind, degree) for caption in unique.values()]
            for kind, degree in zip(batch.kinds, batch.degrees, strict=True)
        ]
    )
    good = rng.sample([worded(text) for text in WELL_LIT], 3)
    dark = rng.sample([worded(text) for text in WORDINGS["backlit"]], 3)
    tokens = torch.stack([tokens_of(text) for text in (*unique, *good, *dark)])
    texts, good, dark = encode_tokens(model, tokens, settings.positions).split([len(unique), len(good), len(dark)])
    scale = model.logit_scale.exp()

    images = torch.cat([seen(images, settings.image_size, noise) for images, _ in views])
    references = torch.cat([seen(references, settings.image_size) for _, references in views])
    goal = badness(images, references, settings.error_unit)
    features = encode_images(model, images)
    captioned = features[: len(captions)]
    contrast = contrastive(captioned, texts, target, fits, scale)
    graded = F.binary_cross_entropy_with_logits(darkness(features, dark, good, scale), goal)
    prototypes = [F.normalize(captioned[batch.of(kind)].mean(0), dim=0) for kind in ("backlit", "well_lit")]
    prototype = F.binary_cross_entropy_with_logits(darkness(features, *prototypes, scale), goal)
    loss = contrast + settings.graded * (graded + 0.5 * prototype)
    return loss, {"contrastive": contrast, "graded": graded, "prototype": prototype, "scale": scale}


# Evaluation on held-out photos


def prompt_pair(model: CLIP, positions: int) -> tuple[Tensor, Tensor]:
    """Unit features ``(D,)`` of the two prompts that the evaluation uses."""
    dark, good = encode_tokens(
        model, torch.stack([tokens_of(text) for text in ("a backlit photo", "a well-lit photo")]), positions
    )
    return dark, good


def auc(high: Tensor, low: Tensor) -> float:
    """Probability that a random value of `high` exceeds a random value of `low`."""
    return (high[:, None] > low[None]).double().mean().item()


@torch.no_grad()
def evaluate(model: CLIP, held_out: Tensor, settings: Settings) -> dict:
    """Scores on held-out photos ``(N, 3, S, S)``, uint8: classification, scores by strength and by kind of light."""
    random = Generator().manual_seed(1234)
    references = held_out.float() / 255
    bad, good = prompt_pair(model, settings.positions)
    scale = model.logit_scale.exp()

    def score(images: Tensor) -> Tensor:
        return darkness(encode_images(model, seen(images, settings.image_size)), bad, good, scale)

    dark, _ = backlit(references, random, DARK)
    high, low = score(dark), score(references)
    errors = badness(seen(dark, settings.image_size), seen(references, settings.image_size), settings.error_unit)
    ideal = illumination(dark, references)
    half = torch.full((len(references), 1, 1, 1), 0.5)
    return {
        "images": len(held_out),
        "scale": scale.item(),
        "accuracy": ((high > 0).double().mean().item() + (low <= 0).double().mean().item()) / 2,
        "auc": auc(high, low),
        "correlation_with_error": torch.corrcoef(torch.stack([high.sigmoid(), errors]))[0, 1].item(),
        "p_backlit": high.sigmoid().mean().item(),
        "p_well_lit": low.sigmoid().mean().item(),
        "p_along_relifting": {
            f"{t:.2f}": score((dark / ideal**t).clamp(0, 1)).sigmoid().mean().item()
            for t in (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 2)
        },
        "p_by_kind": {
            kind: score(relit(kind, references, random, half)).sigmoid().mean().item()
            for kind in (*LIGHTS, *ARTEFACTS, "relit")
        },
    }


def rounded(x):
    """Round floats in nested containers to four decimals."""
    if isinstance(x, dict):
        return {key: rounded(value) for key, value in x.items()}
    return round(x, 4) if isinstance(x, float) else x


# File


def used_ids() -> Tensor:
    """Ids of all tokens that captions and likely user prompts contain, sorted ``(K,)``."""
    texts = [w.format(" ".join(DEGREES)) for ws in WORDINGS.values() for w in ws]
    texts += [*WELL_LIT, *BAD_LIGHT, *FAULTY, *USER_WORDS.split()]
    return torch.unique(open_clip.tokenize(texts))


def content(model: CLIP, metadata: dict[str, str]) -> bytes:
    """The content of the file: weights in half precision, and only the token rows in use."""
    tensors = {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    ids = used_ids()
    tensors["token_embedding.ids"] = ids
    tensors["token_embedding.rows"] = tensors.pop("token_embedding.weight")[ids]
    return in_order(save({key: value.contiguous() for key, value in tensors.items()}, metadata))


def in_order(file: bytes) -> bytes:
    """A safetensors file with sorted metadata, since the library writes it in random order."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + file[end:]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("photos", type=Path, nargs="+", help="folders of photos in good light")
    options.add_argument("--work", type=Path, default=Path("runs/tiny"), help="folder of the training's progress")
    options.add_argument("--output", type=Path, required=True, help="the .safetensors file to write")
    options.add_argument("--iterations", type=int, default=Settings.iterations)
    given = options.parse_args()
    torch.set_num_threads(THREADS)
    settings = Settings(iterations=given.iterations)
    training, held_out = (read_photos(files, settings.stored_size) for files in split(given.photos))
    model = train(training, settings, given.work)
    figures = rounded(evaluate(model, held_out, settings))
    preprocess = {"mean": OPENAI_MEAN, "std": OPENAI_STD, "image_size": settings.image_size}
    metadata = {
        "model_cfg": json.dumps(model_config(settings)),
        "preprocess": json.dumps(preprocess),
        "settings": json.dumps(asdict(settings)),
        "training_data": f"{len(training)} photos of the folders {described(given.photos)}, relit by "
        f"cliplit.data.relight; every {HELD_OUT}th photo by name was held out.",
        "evaluation": json.dumps(figures),
        "package_version": cliplit.__version__,
        "license": "MIT",
    }
    write_bytes(content(model, metadata), given.output)
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
