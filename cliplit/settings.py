"""Every number that changes a result, as frozen settings with default, unit and source.

The defaults are the published settings, so the profile `paper` is `Settings()`. Sources: "paper" is CLIP-LIT
(ICCV 2023), "code" its released training script, "cliplit" a choice of ours that the paper does not have.
"""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from functools import partial
from typing import Any, get_args, get_origin

from cliplit.errors import CliplitError, did_you_mean

INFINITE = float("inf")
COMPARED = ("ViT-B-32-quickgelu/openai", "ViT-B-16-quickgelu/openai", "RN50-quickgelu/openai")  # CLIPs
PHOTOS = "astronaut | chelsea | coffee | grace_hopper | motorcycle | motorcycle_right | rocket"  # embedded ones
SEEDS = "[0, 4294967295]"
PLACES = ("folder", "folders", "NAME=FILE", "NAME=FOLDER")  # units of settings that are paths
SIDES = "[16, inf)"  # of images, in pixels: the network pools three times


def setting(default: Any, source: str, unit: str = "", about: str = "", within: str = "", some: bool = False) -> Any:
    """A dataclass field that carries its unit, its source, a line about it, and the values that it may have.

    Args:
        within: an interval such as "(0, 1]", or values such as "auto | fp32"; of a tuple, for each of its items.
        some: a tuple must not be empty.
    """
    notes = {"source": source, "unit": unit, "about": about, "within": within, "some": some}
    return field(default=default, metadata=notes)


count = partial(setting, within="[1, inf)")  # a whole number
amount = partial(setting, within="[0, inf)")
positive = partial(setting, within="(0, inf)")
share = partial(setting, within="[0, 1]")
threshold = partial(setting, within="[-inf, inf]")


@dataclass(frozen=True)
class Clip:
    """The frozen CLIP models (cliplit/method/clip.py lists the names they can have)."""

    similarity: str = setting("ViT-B-32-quickgelu/openai", "paper 4", about="CLIP of prompts and CLIP-Enhance loss")
    identity: str = setting("RN101-quickgelu/openai", "paper 4", about="CLIP of the identity loss; needs a ResNet")
    random: bool = setting(False, "cliplit", about="random weights instead of the trained ones, as a control")
    antialias: bool = setting(False, "code", about="antialiased resizing to CLIP's input")
    softmax_scale: float = positive(100.0, "code", about="factor on the cosine similarity before the softmax")


@dataclass(frozen=True)
class Data:
    """Where the images come from; without any, the embedded demo images. A folder may be a data set (dataset.json)."""

    sets: tuple[str, ...] = setting((), "cliplit", "folders", "data sets (dataset.json) that serve for all they have")
    backlit: str = setting("", "cliplit", "folder", "backlit training images")
    well_lit: str = setting("", "cliplit", "folder", "well-lit training images, of other scenes")
    test_backlit: str = setting("", "cliplit", "folder", "backlit test images")
    test_reference: str = setting("", "cliplit", "folder", "their well-lit references, paired by file stem; optional")
    skip_bad: bool = setting(False, "cliplit", about="leave out training images that cannot be read")
    train_size: int = setting(512, "code", "pixels", "training images are resized to this square", SIDES)
    test_size: int = amount(0, "cliplit", "pixels", "side of the embedded test crops; 0: the training size")
    embedded_images: int = count(380, "paper 4", "images", "training crops per side drawn from the embedded photos")
    embedded_pairs: int = count(40, "cliplit", "pairs", "test crops drawn from the embedded photos held out")
    well_lit_images: int = amount(0, "cliplit", "images", "how many of the well-lit training images serve; 0: all")
    embedded_backlit: tuple[str, ...] = setting(
        ("motorcycle", "coffee"), "cliplit", "names", "embedded photos, made backlit", PHOTOS, some=True
    )
    embedded_well_lit: tuple[str, ...] = setting(
        ("grace_hopper",), "cliplit", "names", "embedded photos, well-lit", PHOTOS, some=True
    )
    embedded_crop: float = setting(
        0.45, "cliplit", "of the shorter side", "smallest crop of an embedded photo", "(0, 1]"
    )


@dataclass(frozen=True)
class Backlight:
    """The backlit capture that is simulated for the embedded images (cliplit/data/relight.py); drawn uniformly per image."""

    stops_min: float = amount(2.0, "cliplit", "EV", "taken from the foreground, least")
    stops_max: float = amount(4.0, "cliplit", "EV", "taken from the foreground, most")
    background_stops: float = amount(0.3, "cliplit", "EV", "given to the background, most; highlights may clip")
    coverage_min: float = share(0.35, "cliplit", "share", "of the picture in the foreground, least")
    coverage_max: float = share(0.75, "cliplit", "share", "of the picture in the foreground, most")
    softness: float = positive(0.25, "cliplit", "std of score", "width of the mask's edge before edge alignment")
    contrast: float = amount(2.0, "cliplit", "", "gain of the mask around 1/2 after edge alignment")
    wander: float = share(0.25, "cliplit", "", "weight of smooth randomness in the mask, against darkness with 1")
    down: float = amount(0.7, "cliplit", "", 'weight of "lower in the picture"')
    centre: float = amount(0.2, "cliplit", "", 'weight of "nearer the vertical middle line"')
    overall: bool = setting(False, "cliplit", "", "a random share of the stops is taken from the whole picture")
    untouched: float = share(0.0, "cliplit", "share", "of the pictures, whose light stays as it is")
    photons: float = positive(4000.0, "cliplit", "electrons", "at white: shot noise has the variance light / photons")
    read_noise: float = amount(0.0015, "cliplit", "of white", "standard deviation of noise in the dark")


@dataclass(frozen=True)
class GuidanceOptions:
    """What guides the network (cliplit/method/guidance): the learned prompt pair of the paper, or another guidance."""

    kind: str = setting("clip-lit", "paper", about="clip-lit, clip-lit-latent, rave, adversarial, none, FILE.py:CLASS")
    latent_learning_rate: float = amount(5e-4, "RAVE's code", "Adam", "of the latent pair")
    rave_factor: float = amount(6.0, "RAVE's code", "x clip_weight", "weight of RAVE's loss")
    rave_shift_tokens: int = amount(0, "RAVE's code", "tokens", "at both ends taken out of the residual vector")
    adversarial_factor: float = amount(0.1, "cliplit", "x clip_weight", "weight of the adversarial loss")
    adversarial_width: int = count(32, "cliplit", "channels", "of the discriminator's first layer")
    adversarial_learning_rate: float = amount(2e-4, "cliplit", "Adam", "of the discriminator")


@dataclass(frozen=True)
class Prompts:
    """Prompt initialization (paper, section 3.1)."""

    initial: tuple[str, str] = setting(("", ""), "code", "", 'texts that the pair starts from; empty: "X X ... X"')
    length: int = setting(16, "code", "words", 'of "X X ... X"', "[1, 75]")
    iterations: int = amount(8000, "code", "iterations", "0: the pair stays what it starts from")
    batch_size: int = count(16, "code", "images")
    learning_rate: float = amount(5e-6, "code", "Adam")
    weight_decay: float = amount(1e-3, "code", "Adam")
    label_smoothing: float = share(0.0, "code", "probability")
    size: int = setting(256, "code", "pixels", "images are resized to this square, here and in refinement", SIDES)
    zoom: tuple[float, float] = positive((0.5, 1.5), "code", "factor", "range of random zoom, here and in refinement")
    views_per_image: int = amount(16, "cliplit", "views", "encoded once in every stage; 0: new ones every iteration")


@dataclass(frozen=True)
class Enhancement:
    """The enhancement network and its training (paper, section 3.1)."""

    width: int = count(32, "code", "channels")
    downscale: int = count(1, "code", "factor", "the illumination map is predicted at 1/downscale of the image")
    longer_side: int = amount(0, "code", "pixels", "larger images are reduced to it for the map; 0: never")
    init_std: float = amount(0.02, "code", "", "standard deviation of the first weights of every convolution")
    max_illumination: float = setting(
        INFINITE, "code", "", "smooth upper bound of the illumination map; inf: ReLU", "(0, inf]"
    )
    min_illumination: float = amount(0.0, "code", "", "lower bound beside it; the map is then learned in stops")
    keep_highlights: bool = setting(False, "cliplit", "", "of results: the brighter a pixel, the nearer its map to 1")
    batch_size: int = count(8, "code", "images")
    learning_rate: float = amount(2e-5, "code", "Adam")
    weight_decay: float = amount(1e-3, "code", "Adam")
    zoom: tuple[float, float] = positive((0.7, 1.3), "code", "factor", "range of random zoom")
    crop: float = setting(
        1.0, "cliplit", "of the side", "smallest random square of a batch that is trained on; 1: all", "(0, 1]"
    )
    sizes: tuple[int, ...] = setting((), "cliplit", "pixels", "a batch is resized to one of these; empty: never", SIDES)
    clip_weight: float = amount(320.0, "code", "", "of the CLIP-Enhance loss")
    identity_weight: float = amount(22.5, "code", "", "of the identity loss: 0.9 x 25")
    identity_stages: tuple[float, float, float, float, float] = amount(
        (1.0, 1.0, 1.0, 1.0, 0.5), "code", "", "of stem and stages 1-4"
    )
    smoothness_weight: float = amount(0.0, "cliplit", "", "of the smoothness of the illumination map's logarithm")
    max_gradient_norm: float = setting(INFINITE, "cliplit", "", "longer gradients are scaled down to it", "(0, inf]")
    view_scale: float = setting(
        1.0, "cliplit", "of the side", "smallest random square view that CLIP sees; 1: all", "(0, 1]"
    )
    views: int = count(1, "cliplit", "views", "random views of each image that CLIP sees")

    warmup_iterations: int = count(1000, "code", "iterations", "identity loss only")
    warmup_identity_weight: float = amount(25.0, "code")
    warmup_identity_stages: tuple[float, float, float, float, float] = amount((1.0, 1.0, 1.0, 1.0, 1.0), "code")
    guard_psnr: float = threshold(8.0, "code", "dB", "warm-up starts anew with another seed below this mean PSNR")
    guard_after: int = amount(100, "code", "iterations", "before the guard looks; also added at a new start")
    guard_attempts: int = amount(10, "cliplit", "new starts", "before giving up; unbounded in the code")

    iterations: int = count(2100, "code", "iterations", "of every round")
    extend_above: float = threshold(90.0, "code", "loss", "a round goes on while its last loss is above")
    extend_by: int = count(60, "code", "iterations")
    average: int = count(30, "code", "iterations", "the best network has the best mean loss of so many")
    look_every: int = count(20, "code", "iterations", "between looks for the best network")
    averaging: float = setting(
        0.0, "code", "decay", "of an exponential average that replaces the weights; 0: none", "[0, 1)"
    )


@dataclass(frozen=True)
class Refinement:
    """Prompt refinement and enhancement tuning in rounds (paper, section 3.2)."""

    rounds: int = amount(14, "code", "rounds", "8K + 1K + 14 rounds of 3.1K exceed the advised 50K iterations")
    iterations: int = amount(1000, "code", "iterations", "of every round's prompt refinement; 0: none")
    tuning_iterations: int = count(2100, "code", "iterations", "of the enhancement network in every round")
    batch_size: int = count(16, "code", "tuples")
    weight: float = amount(200.0, "code", "", "of the margin ranking loss")
    far_margin: float = share(0.9, "code", "probability", "backlit to first result, and to well-lit")
    near_margin_first: float = share(0.2, "code", "probability", "result to well-lit, in round 1")
    near_margin: float = share(0.1, "code", "probability", "older to newer result to well-lit, later")
    extend_above: float = threshold(60.0, "code", "loss", "refinement goes on while its last loss is above")
    extend_by: int = count(100, "code", "iterations")
    max_extensions: int = amount(10, "cliplit", "extensions", "of one part of a round; unbounded in the code")


@dataclass(frozen=True)
class Engine:
    """How training computes (cliplit/engine/compute.py); changes results by rounding only."""

    precision: str = setting(
        "auto", "cliplit", "", "of network and image encoders; auto: bf16 on a GPU, else fp32", "auto | fp32 | bf16"
    )
    compile: bool = setting(False, "cliplit", about="torch.compile of network and image encoders")
    deterministic: bool = setting(False, "cliplit", about="slower algorithms with the same bytes every time, on a GPU")


@dataclass(frozen=True)
class Watch:
    """What is recorded for those who watch a run; changes no result, so nothing is made anew for it."""

    panel_every: int = amount(100, "cliplit", "iterations", "of the network between panels of images; 0: none")
    tensorboard: bool = setting(False, "cliplit", about="also write events for TensorBoard")
    save_seconds: float = amount(5.0, "cliplit", "s", "between saves of the progress, if they are quick; 0: always")


@dataclass(frozen=True)
class Evaluation:
    """What is measured on the test images."""

    metrics: tuple[str, ...] = setting(("psnr", "ssim", "lpips", "musiq"), "paper 4", "pyiqa names", some=True)
    gammas: tuple[float, ...] = positive(
        (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), "cliplit", "exponent", "the best one, by PSNR, is `gamma`", some=True
    )
    baselines: tuple[str, ...] = setting(("histeq", "clahe"), "cliplit", "names", "simple rivals, from scikit-image")
    control: bool = setting(True, "cliplit", about="also train with random CLIP weights: the row `random-clip`")
    checkpoints: tuple[str, ...] = setting((), "cliplit", "NAME=FILE", "further networks, ours or released ones")
    results: tuple[str, ...] = setting((), "cliplit", "NAME=FOLDER", "results of other methods, paired by file stem")
    resamples: int = count(10_000, "cliplit", "resamples", "of the test images, for confidence intervals")
    confidence: float = setting(0.95, "cliplit", "probability", "of the confidence intervals", "(0, 1)")


@dataclass(frozen=True)
class Studies:
    """Ablations and guidance variants (cliplit/experiments/studies.py): every variant is a run of its own, for every seed."""

    seeds: tuple[int, ...] = setting((0, 1, 2), "cliplit", "seeds", "of every variant", SEEDS)
    metrics: tuple[str, ...] = setting(
        ("psnr", "ssim"), "cliplit", "pyiqa names", "in the tables; the first one ranks", some=True
    )
    changes: tuple[str, ...] = setting((), "cliplit", "NAME=VALUE", "settings of all variants, unlike the run's")
    rounds: int = amount(2, "cliplit", "rounds", "of refinement where a study has them; the others have none")
    progress_rounds: int = count(5, "cliplit", "rounds", "of the guidances; each is scored after every round")
    backbones: tuple[str, ...] = setting(
        (*COMPARED, "ViT-B-32/laion2b_s34b_b79k"), "cliplit", "CLIPs", "compared as clip.similarity"
    )


@dataclass(frozen=True)
class Settings:
    """All settings of a run."""

    profile: str = "paper"
    seed: int = setting(0, "cliplit", about="of every random draw", within=SEEDS)
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

    A comma separates the items of a tuple; one within an item needs quotes: ``prompts.initial="dark, dull","bright"``.

    Raises CliplitError for a part that is not NAME=VALUE.
    """
    pairs = [part.partition("=") for part in (text.split() if isinstance(text, str) else text)]
    bad = ["".join(pair) for pair in pairs if not pair[0] or not pair[1]]
    if bad:
        raise CliplitError(f"override '{bad[0]}' is not of the form NAME=VALUE")
    return {key: value for key, _, value in pairs}


def flatten(settings: Any) -> dict[str, Any]:
    """Settings as ``{"group.name": value}``, in the order of their definition."""
    return {name: value for name, _, value in leaves(settings)}


def describe(settings: Settings) -> list[dict[str, Any]]:
    """One row per setting: name, value, the paper's value, unit, source and a line about it."""
    paper = flatten(Settings())
    return [
        {"name": name, "value": value, "paper": paper[name]}
        | {key: item.metadata[key] for key in ("source", "unit", "about", "within") if key in item.metadata}
        for name, item, value in leaves(settings)
    ]


def leaves(settings: Any, prefix: str = "") -> Iterator[tuple[str, Field, Any]]:
    """Name, field and value of every setting."""
    for item in fields(settings):
        value = getattr(settings, item.name)
        if is_dataclass(value):
            yield from leaves(value, f"{item.name}.")
        else:
            yield prefix + item.name, item, value


def to_json(settings: Any) -> dict[str, Any]:
    """Settings as nested plain values that survive JSON; infinity becomes "inf"."""
    return {
        item.name: to_json(value) if is_dataclass(value := getattr(settings, item.name)) else plain(value)
        for item in fields(settings)
    }


def from_json(stored: Mapping[str, Any], strict: bool = True) -> Settings:
    """Settings stored by `to_json`.

    Args:
        strict: False to leave out what another version stored and this one does not know.
    Raises:
        CliplitError: names that this version does not know.
    """
    flat = dotted(stored)
    settings = Settings(profile=str(flat.pop("profile", "paper")))
    known = flatten(settings)
    return override(settings, {name: value for name, value in flat.items() if strict or name in known})


def dotted(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values by dotted names."""
    flat: dict[str, Any] = {}
    for group, value in nested.items():
        flat |= {f"{group}.{name}": one for name, one in value.items()} if isinstance(value, dict) else {group: value}
    return flat


def plain(value: Any) -> Any:
    """A value that survives JSON: lists for tuples, "inf" and "-inf" for the infinities."""
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def override(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Settings of which some are changed, by their dotted names; see `profile`."""
    valid = {name: item for name, item, _ in leaves(settings) if name != "profile"}
    for key, value in changes.items():
        if key not in valid:
            raise CliplitError(f"unknown setting '{key}'{did_you_mean(key, valid)} (`cliplit settings` lists them)")
        kind: Any = valid[key].type
        try:
            parsed = _parse(value, kind)
        except (TypeError, ValueError, LookupError, OverflowError):
            name = str(kind) if get_origin(kind) else kind.__name__
            raise CliplitError(f"setting '{key}' is of type {name}, got {value!r}") from None
        group, _, leaf = key.rpartition(".")
        change: dict[str, Any] = {leaf: parsed}
        settings = replace(settings, **({group: replace(getattr(settings, group), **change)} if group else change))
    return settings


def shown(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(shown, value))
    return "empty" if value == "" else str(value)


def _parse(value: Any, kind: Any) -> Any:
    """A value of a type, or a text that spells one."""
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        items = next(csv.reader([value], skipinitialspace=True), []) if isinstance(value, str) else list(value)
        if kinds[-1] is ...:
            items = [item for item in items if item != ""]
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
