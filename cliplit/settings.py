"""Every number that changes a result, as frozen settings with default, unit and source.

The defaults are the published settings, so the profile `paper` is `Settings()`. Sources: "paper" is CLIP-LIT
(ICCV 2023), "code" its released training script, "cliplit" a choice of ours that the paper does not have.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin

from cliplit.errors import CliplitError, did_you_mean

INFINITE = float("inf")
COMPARED = ("ViT-B-32-quickgelu/openai", "ViT-B-16-quickgelu/openai", "RN50-quickgelu/openai")  # CLIPs


def setting(default: Any, source: str, unit: str = "", about: str = "", least: int | None = None) -> Any:
    """A dataclass field that carries its unit, its source, a line about it, and its least value."""
    return field(default=default, metadata={"source": source, "unit": unit, "about": about, "least": least})


count = partial(setting, least=1)  # a whole number


@dataclass(frozen=True)
class Clip:
    """The frozen CLIP models (cliplit/method/clip.py lists the names they can have)."""

    similarity: str = setting("ViT-B-32-quickgelu/openai", "paper 4", about="CLIP of prompts and CLIP-Enhance loss")
    identity: str = setting("RN101-quickgelu/openai", "paper 4", about="CLIP of the identity loss; needs a ResNet")
    random: bool = setting(False, "cliplit", about="random weights instead of the trained ones, as a control")
    antialias: bool = setting(False, "code", about="antialiased resizing to CLIP's input")
    softmax_scale: float = setting(100.0, "code", about="factor on the cosine similarity before the softmax")


@dataclass(frozen=True)
class Data:
    """Where the images come from; without any, the embedded demo images. A folder may be a data set (dataset.json)."""

    sets: tuple[str, ...] = setting((), "cliplit", "folders", "data sets (dataset.json) that serve for all they have")
    backlit: str = setting("", "cliplit", "folder", "backlit training images")
    well_lit: str = setting("", "cliplit", "folder", "well-lit training images, of other scenes")
    test_backlit: str = setting("", "cliplit", "folder", "backlit test images")
    test_reference: str = setting("", "cliplit", "folder", "their well-lit references, paired by file stem; optional")
    skip_bad: bool = setting(False, "cliplit", about="leave out training images that cannot be read")
    train_size: int = count(512, "code", "pixels", "training images are resized to this square")
    test_size: int = setting(0, "cliplit", "pixels", "side of the embedded test crops; 0: the training size")
    embedded_images: int = count(380, "paper 4", "images", "training crops per side drawn from the embedded photos")
    embedded_pairs: int = count(40, "cliplit", "pairs", "test crops drawn from the embedded photos held out")
    well_lit_images: int = setting(0, "cliplit", "images", "how many of the well-lit training images serve; 0: all")
    embedded_well_lit: tuple[str, ...] = setting(("grace_hopper",), "cliplit", "names", "embedded photos, well-lit")
    embedded_crop: float = setting(0.45, "cliplit", "of the shorter side", "smallest crop of an embedded photo")


@dataclass(frozen=True)
class Backlight:
    """The backlit capture that is simulated for the embedded images (cliplit/data/relight.py); drawn uniformly per image."""

    stops_min: float = setting(2.0, "cliplit", "EV", "taken from the foreground, least")
    stops_max: float = setting(4.0, "cliplit", "EV", "taken from the foreground, most")
    background_stops: float = setting(0.3, "cliplit", "EV", "given to the background, most; highlights may clip")
    coverage_min: float = setting(0.35, "cliplit", "share", "of the picture in the foreground, least")
    coverage_max: float = setting(0.75, "cliplit", "share", "of the picture in the foreground, most")
    softness: float = setting(0.25, "cliplit", "std of score", "width of the mask's edge before edge alignment")
    contrast: float = setting(2.0, "cliplit", "", "gain of the mask around 1/2 after edge alignment")
    wander: float = setting(0.25, "cliplit", "", "weight of smooth randomness in the mask, against darkness with 1")
    down: float = setting(0.7, "cliplit", "", 'weight of "lower in the picture"')
    centre: float = setting(0.2, "cliplit", "", 'weight of "nearer the vertical middle line"')
    overall: bool = setting(False, "cliplit", "", "a random share of the stops is taken from the whole picture")
    untouched: float = setting(0.0, "cliplit", "share", "of the pictures, whose light stays as it is")
    photons: float = setting(4000.0, "cliplit", "electrons", "at white: shot noise has the variance light / photons")
    read_noise: float = setting(0.0015, "cliplit", "of white", "standard deviation of noise in the dark")


@dataclass(frozen=True)
class GuidanceOptions:
    """What guides the network (cliplit/method/guidance): the learned prompt pair of the paper, or another guidance."""

    kind: str = setting("clip-lit", "paper", about="clip-lit, clip-lit-latent, rave, adversarial, none, FILE.py:CLASS")
    latent_learning_rate: float = setting(5e-4, "RAVE's code", "Adam", "of the latent pair")
    rave_factor: float = setting(6.0, "RAVE's code", "x clip_weight", "weight of RAVE's loss")
    rave_shift_tokens: int = setting(0, "RAVE's code", "tokens", "at both ends taken out of the residual vector")
    adversarial_factor: float = setting(0.1, "cliplit", "x clip_weight", "weight of the adversarial loss")
    adversarial_width: int = setting(32, "cliplit", "channels", "of the discriminator's first layer")
    adversarial_learning_rate: float = setting(2e-4, "cliplit", "Adam", "of the discriminator")


@dataclass(frozen=True)
class Prompts:
    """Prompt initialization (paper, section 3.1)."""

    initial: tuple[str, str] = setting(("", ""), "code", "", 'texts that the pair starts from; empty: "X X ... X"')
    length: int = count(16, "code", "words", 'of "X X ... X"')
    iterations: int = count(8000, "code", "iterations", "0: the pair stays what it starts from", least=0)
    batch_size: int = count(16, "code", "images")
    learning_rate: float = setting(5e-6, "code", "Adam")
    weight_decay: float = setting(1e-3, "code", "Adam")
    label_smoothing: float = setting(0.0, "code", "probability")
    size: int = count(256, "code", "pixels", "images are resized to this square, here and in refinement")
    zoom: tuple[float, float] = setting((0.5, 1.5), "code", "factor", "range of random zoom, here and in refinement")
    views_per_image: int = setting(16, "cliplit", "views", "encoded once in every stage; 0: new ones every iteration")


@dataclass(frozen=True)
class Enhancement:
    """The enhancement network and its training (paper, section 3.1)."""

    width: int = count(32, "code", "channels")
    downscale: int = count(1, "code", "factor", "the illumination map is predicted at 1/downscale of the image")
    longer_side: int = count(0, "code", "pixels", "larger images are reduced to it for the map; 0: never", least=0)
    init_std: float = setting(0.02, "code", "", "standard deviation of the first weights of every convolution")
    max_illumination: float = setting(INFINITE, "code", "", "smooth upper bound of the illumination map; inf: ReLU")
    min_illumination: float = setting(0.0, "code", "", "lower bound beside it; the map is then learned in stops")
    keep_highlights: bool = setting(False, "cliplit", "", "of results: the brighter a pixel, the nearer its map to 1")
    batch_size: int = count(8, "code", "images")
    learning_rate: float = setting(2e-5, "code", "Adam")
    weight_decay: float = setting(1e-3, "code", "Adam")
    zoom: tuple[float, float] = setting((0.7, 1.3), "code", "factor", "range of random zoom")
    crop: float = setting(1.0, "cliplit", "of the side", "smallest random square of a batch that is trained on; 1: all")
    sizes: tuple[int, ...] = setting((), "cliplit", "pixels", "a batch is resized to one of these; empty: never")
    clip_weight: float = setting(320.0, "code", "", "of the CLIP-Enhance loss")
    identity_weight: float = setting(22.5, "code", "", "of the identity loss: 0.9 x 25")
    identity_stages: tuple[float, ...] = setting((1.0, 1.0, 1.0, 1.0, 0.5), "code", "", "of stem and stages 1-4")
    smoothness_weight: float = setting(0.0, "cliplit", "", "of the smoothness of the illumination map's logarithm")
    max_gradient_norm: float = setting(INFINITE, "cliplit", "", "longer gradients are scaled down to it")
    view_scale: float = setting(1.0, "cliplit", "of the side", "smallest random square view that CLIP sees; 1: all")
    views: int = count(1, "cliplit", "views", "random views of each image that CLIP sees")

    warmup_iterations: int = count(1000, "code", "iterations", "identity loss only")
    warmup_identity_weight: float = setting(25.0, "code")
    warmup_identity_stages: tuple[float, ...] = setting((1.0, 1.0, 1.0, 1.0, 1.0), "code")
    guard_psnr: float = setting(8.0, "code", "dB", "warm-up starts anew with another seed below this mean PSNR")
    guard_after: int = setting(100, "code", "iterations", "before the guard looks; also added at a new start")
    guard_attempts: int = setting(10, "cliplit", "new starts", "before giving up; unbounded in the code")

    iterations: int = count(2100, "code", "iterations", "of every round")
    extend_above: float = setting(90.0, "code", "loss", "a round goes on while its last loss is above")
    extend_by: int = setting(60, "code", "iterations")
    average: int = count(30, "code", "iterations", "the best network has the best mean loss of so many")
    look_every: int = count(20, "code", "iterations", "between looks for the best network")
    averaging: float = setting(0.0, "code", "decay", "of an exponential average that replaces the weights; 0: none")


@dataclass(frozen=True)
class Refinement:
    """Prompt refinement and enhancement tuning in rounds (paper, section 3.2)."""

    rounds: int = setting(14, "code", "rounds", "8K + 1K + 14 rounds of 3.1K exceed the advised 50K iterations")
    iterations: int = count(1000, "code", "iterations", "of every round's prompt refinement; 0: none", least=0)
    tuning_iterations: int = count(2100, "code", "iterations", "of the enhancement network in every round")
    batch_size: int = count(16, "code", "tuples")
    weight: float = setting(200.0, "code", "", "of the margin ranking loss")
    far_margin: float = setting(0.9, "code", "probability", "backlit to first result, and to well-lit")
    near_margin_first: float = setting(0.2, "code", "probability", "result to well-lit, in round 1")
    near_margin: float = setting(0.1, "code", "probability", "older to newer result to well-lit, later")
    extend_above: float = setting(60.0, "code", "loss", "refinement goes on while its last loss is above")
    extend_by: int = setting(100, "code", "iterations")
    max_extensions: int = setting(10, "cliplit", "extensions", "of one part of a round; unbounded in the code")


@dataclass(frozen=True)
class Engine:
    """How training computes (cliplit/engine/compute.py); changes results by rounding only."""

    precision: str = setting("auto", "cliplit", "", "of network and image encoders: fp32, bf16, auto (bf16 on a GPU)")
    compile: bool = setting(False, "cliplit", about="torch.compile of network and image encoders")
    deterministic: bool = setting(False, "cliplit", about="slower algorithms with the same bytes every time, on a GPU")


@dataclass(frozen=True)
class Watch:
    """What is recorded for those who watch a run; changes no result, so nothing is made anew for it."""

    panel_every: int = setting(100, "cliplit", "iterations", "of the network between panels of images; 0: none")
    tensorboard: bool = setting(False, "cliplit", about="also write events for TensorBoard")
    save_seconds: float = setting(5.0, "cliplit", "s", "between saves of the progress, if they are quick; 0: always")


@dataclass(frozen=True)
class Evaluation:
    """What is measured on the test images."""

    metrics: tuple[str, ...] = setting(("psnr", "ssim", "lpips", "musiq"), "paper 4", "pyiqa names")
    gammas: tuple[float, ...] = setting(
        (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), "cliplit", "exponent", "best one, by PSNR, is the row `gamma`"
    )
    baselines: tuple[str, ...] = setting(("histeq", "clahe"), "cliplit", "names", "simple rivals, from scikit-image")
    control: bool = setting(True, "cliplit", about="also train with random CLIP weights: the row `random-clip`")
    checkpoints: tuple[str, ...] = setting((), "cliplit", "NAME=FILE", "further networks, ours or released ones")
    results: tuple[str, ...] = setting((), "cliplit", "NAME=FOLDER", "results of other methods, paired by file stem")
    resamples: int = count(10_000, "cliplit", "resamples", "of the test images, for confidence intervals")
    confidence: float = setting(0.95, "cliplit", "probability", "of the confidence intervals")


@dataclass(frozen=True)
class Studies:
    """Ablations and guidance variants (cliplit/experiments/studies.py): every variant is a run of its own, for every seed."""

    seeds: tuple[int, ...] = setting((0, 1, 2), "cliplit", "seeds", "of every variant")
    metrics: tuple[str, ...] = setting(("psnr", "ssim"), "cliplit", "pyiqa names", "in the tables; the first one ranks")
    changes: tuple[str, ...] = setting((), "cliplit", "NAME=VALUE", "settings of all variants, unlike the run's")
    rounds: int = setting(2, "cliplit", "rounds", "of refinement where a study has them; the others have none")
    progress_rounds: int = setting(5, "cliplit", "rounds", "of the guidances; each is scored after every round")
    backbones: tuple[str, ...] = setting(
        (*COMPARED, "ViT-B-32/laion2b_s34b_b79k"), "cliplit", "CLIPs", "compared as clip.similarity"
    )


@dataclass(frozen=True)
class Settings:
    """All settings of a run."""

    profile: str = "paper"
    seed: int = setting(0, "cliplit", about="of every random draw")
    device: str = setting("auto", "cliplit", about="the device: auto, cpu, cuda, cuda:1 ...")
    clip: Clip = Clip()
    data: Data = Data()
    backlight: Backlight = Backlight()
    guidance: GuidanceOptions = GuidanceOptions()
    prompts: Prompts = Prompts()
    enhancement: Enhancement = Enhancement()
    refinement: Refinement = Refinement()
    engine: Engine = Engine()
    watch: Watch = Watch()
    evaluation: Evaluation = Evaluation()
    studies: Studies = Studies()


def parse_overrides(text: str | Iterable[str]) -> dict[str, str]:
    """``"a.b=1 c=2"``, or its parts, as a dictionary.

    Raises:
        CliplitError: a part that is not NAME=VALUE.
    """
    pairs = [part.partition("=") for part in (text.split() if isinstance(text, str) else text)]
    bad = ["".join(pair) for pair in pairs if not pair[0] or not pair[1]]
    if bad:
        raise CliplitError(f"override '{bad[0]}' is not of the form NAME=VALUE")
    return {key: value for key, _, value in pairs}


def flatten(settings: Any) -> dict[str, Any]:
    """Settings as ``{"group.name": value}``, in the order of their definition."""
    return {name: value for name, _, value in _leaves(settings)}


def describe(settings: Settings) -> list[dict[str, Any]]:
    """One row per setting: name, value, the paper's value, unit, source and a line about it."""
    paper = flatten(Settings())
    return [
        {"name": name, "value": value, "paper": paper[name]}
        | {key: item.metadata[key] for key in ("source", "unit", "about") if key in item.metadata}
        for name, item, value in _leaves(settings)
    ]


def _leaves(settings: Any, prefix: str = "") -> Iterator[tuple[str, Field, Any]]:
    """Name, field and value of every setting."""
    for item in fields(settings):
        value = getattr(settings, item.name)
        if is_dataclass(value):
            yield from _leaves(value, f"{item.name}.")
        else:
            yield prefix + item.name, item, value


def to_json(settings: Any) -> dict[str, Any]:
    """Settings as nested plain values that survive JSON; infinity becomes "inf"."""
    return {
        item.name: to_json(value) if is_dataclass(value := getattr(settings, item.name)) else plain(value)
        for item in fields(settings)
    }


def from_json(stored: Mapping[str, Any]) -> Settings:
    """Settings stored by `to_json`.

    Raises:
        CliplitError: names that this version does not know.
    """
    flat = {}
    for group, values in stored.items():
        for leaf, value in values.items() if isinstance(values, Mapping) else [("", values)]:
            flat[f"{group}.{leaf}" if leaf else group] = value
    profile = str(flat.pop("profile", "paper"))
    return override(Settings(profile=profile), flat)


def plain(value: Any) -> Any:
    """A value that survives JSON: lists for tuples, "inf" and "-inf" for the infinities."""
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def override(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Settings of which some are changed, by their dotted names; see `profile`."""
    valid = {name: item for name, item, _ in _leaves(settings) if name != "profile"}
    for key, value in changes.items():
        if key not in valid:
            raise CliplitError(f"unknown setting '{key}'{did_you_mean(key, valid)} (`cliplit settings` lists them)")
        kind: Any = valid[key].type
        least = valid[key].metadata["least"]
        try:
            parsed = _parse(value, kind)
        except (TypeError, ValueError, LookupError, OverflowError):
            name = str(kind) if get_origin(kind) else kind.__name__
            raise CliplitError(f"setting '{key}' is of type {name}, got {value!r}") from None
        if least is not None and parsed < least:
            raise CliplitError(f"setting '{key}' is at least {least}, got {value!r}")
        group, _, leaf = key.rpartition(".")
        change: dict[str, Any] = {leaf: parsed}
        settings = replace(settings, **({group: replace(getattr(settings, group), **change)} if group else change))
    return settings


def _parse(value: Any, kind: Any) -> Any:
    """A value of a type, or a text that spells one."""
    if get_origin(kind) is tuple:
        items = list(filter(None, value.split(","))) if isinstance(value, str) else list(value)
        kinds = get_args(kind)
        if kinds[-1] is not ... and len(items) != len(kinds):
            raise ValueError
        return tuple(_parse(item.strip() if isinstance(item, str) else item, kinds[0]) for item in items)
    if kind is bool:
        return {"true": True, "false": False}[str(value).lower()]
    wrong = isinstance(value, bool) or (kind is int and isinstance(value, float))
    if wrong or (kind is str and not isinstance(value, str)):
        raise ValueError
    parsed = kind(value)
    if parsed != parsed:  # NaN
        raise ValueError
    return parsed


def named_paths(pairs: tuple[str, ...]) -> dict[str, Path]:
    """``("a=x", "b=y")`` as paths by name.

    Raises:
        CliplitError: one that is not NAME=PATH, or a name that is there twice.
    """
    found: dict[str, Path] = {}
    for name, equals, path in (pair.partition("=") for pair in pairs):
        if not name or not path or name in found:
            raise CliplitError(f"'{name}{equals}{path}' is not of the form NAME=PATH with a name of its own")
        found[name] = Path(path)
    return found
