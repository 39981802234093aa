"""Every number that changes a result, as frozen settings with default, unit and source.

The defaults are the published settings, so the profile `paper` is `Settings()`. Sources: "paper" is CLIP-LIT
(ICCV 2023), "code" is its released training script, and "cliplit" is our own choice, which is not in the paper.
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
PHOTOS = "astronaut | chelsea | coffee | grace_hopper | motorcycle | motorcycle_right | rocket"  # the embedded photos
SEEDS = "[0, 4294967295]"
PLACES = ("folder", "folders", "NAME=FILE", "NAME=FOLDER")  # units of settings that are paths
SIDES = "[16, inf)"  # sides of images in pixels; at least 16, because the network pools three times
# Settings of earlier versions, with the fixed values that replaced them.
REMOVED = {"guidance.rave_shift_tokens": 0, "engine.compile": False, "clip.antialias": False}


def setting(default: Any, source: str, unit: str = "", about: str = "", within: str = "", some: bool = False) -> Any:
    """A dataclass field with its unit, source, description and allowed values.

    Args:
        within: an interval such as "(0, 1]", or choices such as "auto | fp32", for every item of a tuple.
        some: the tuple must not be empty.
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
    """The frozen CLIP models (cliplit/method/clip.py lists allowed names)."""

    similarity: str = setting("ViT-B-32-quickgelu/openai", "paper 4", about="CLIP of prompts and CLIP-Enhance loss")
    identity: str = setting("RN101-quickgelu/openai", "paper 4", about="CLIP of the identity loss; must be a ResNet")
    random: bool = setting(False, "cliplit", about="use random weights instead of the trained ones, as a control")
    softmax_scale: float = positive(100.0, "code", about="factor on the cosine similarity before the softmax")


@dataclass(frozen=True)
class Data:
    """Where the images come from; by default the embedded demo images. A folder may be a data set (dataset.json)."""

    sets: tuple[str, ...] = setting((), "cliplit", "folders", "data sets (dataset.json) to train and test on")
    backlit: str = setting("", "cliplit", "folder", "backlit training images")
    well_lit: str = setting("", "cliplit", "folder", "well-lit training images of other scenes")
    test_backlit: str = setting("", "cliplit", "folder", "backlit test images")
    test_reference: str = setting("", "cliplit", "folder", "well-lit references of the test images, by file stem")
    skip_bad: bool = setting(False, "cliplit", about="leave out training images that cannot be read")
    train_size: int = setting(512, "code", "pixels", "side of the square training images", SIDES)
    test_size: int = amount(0, "cliplit", "pixels", "side of the embedded test crops; 0: the training size")
    embedded_images: int = count(380, "paper 4", "images", "embedded training crops, backlit and as many well-lit")
    embedded_pairs: int = count(40, "cliplit", "pairs", "test crops from embedded photos that are held out")
    well_lit_images: int = amount(0, "cliplit", "images", "number of well-lit training images to use; 0: all")
    embedded_backlit: tuple[str, ...] = setting(
        ("motorcycle", "coffee"), "cliplit", "names", "embedded photos to make backlit", PHOTOS, some=True
    )
    embedded_well_lit: tuple[str, ...] = setting(
        ("grace_hopper",), "cliplit", "names", "embedded photos to use as well-lit", PHOTOS, some=True
    )
    embedded_crop: float = setting(
        0.45, "cliplit", "of the shorter side", "smallest crop of an embedded photo", "(0, 1]"
    )


@dataclass(frozen=True)
class Backlight:
    """The backlight simulated on embedded images (cliplit/data/relight.py), with uniform draws for each image."""

    stops_min: float = amount(2.0, "cliplit", "EV", "least darkening of the foreground")
    stops_max: float = amount(4.0, "cliplit", "EV", "most darkening of the foreground")
    background_stops: float = amount(0.3, "cliplit", "EV", "most brightening of the background; highlights may clip")
    coverage_min: float = share(0.35, "cliplit", "share", "least share of the foreground in the picture")
    coverage_max: float = share(0.75, "cliplit", "share", "most share of the foreground in the picture")
    softness: float = positive(0.25, "cliplit", "std of score", "width of the mask's edge before edge alignment")
    contrast: float = amount(2.0, "cliplit", "", "gain of the mask around 1/2 after edge alignment")
    wander: float = share(0.25, "cliplit", "", "weight of smooth random values in the mask; darkness has weight 1")
    down: float = amount(0.7, "cliplit", "", 'weight of "lower in the picture"')
    centre: float = amount(0.2, "cliplit", "", 'weight of "nearer the vertical middle line"')
    overall: bool = setting(False, "cliplit", "", "darken the whole picture by a random share of the stops")
    local: float = share(0.0, "cliplit", "share", "with `overall`: share of pictures with only a dark foreground")
    untouched: float = share(0.0, "cliplit", "share", "share of pictures that keep their light")
    photons: float = positive(4000.0, "cliplit", "electrons", "count at white; shot noise has variance light / photons")
    read_noise: float = amount(0.0015, "cliplit", "of white", "standard deviation of noise in the dark")


@dataclass(frozen=True)
class GuidanceOptions:
    """The guidance of the network (cliplit/method/guidance): the learned prompt pair of the paper, or another one."""

    kind: str = setting("clip-lit", "paper", about="clip-lit, clip-lit-latent, rave, adversarial, none, FILE.py:CLASS")
    latent_learning_rate: float = amount(5e-4, "RAVE's code", "Adam", "learning rate of the latent pair")
    rave_factor: float = amount(6.0, "RAVE's code", "x clip_weight", "weight of RAVE's loss")
    adversarial_factor: float = amount(0.1, "cliplit", "x clip_weight", "weight of the adversarial loss")
    adversarial_width: int = count(32, "cliplit", "channels", "width of the discriminator's first layer")
    adversarial_learning_rate: float = amount(2e-4, "cliplit", "Adam", "learning rate of the discriminator")


@dataclass(frozen=True)
class Prompts:
    """Prompt initialization (paper, section 3.1)."""

    initial: tuple[str, str] = setting(("", ""), "code", "", 'texts that the pair starts from; empty: "X X ... X"')
    length: int = setting(16, "code", "words", 'length of "X X ... X"', "[1, 75]")
    iterations: int = amount(8000, "code", "iterations", "0: the initial pair stays unchanged")
    batch_size: int = count(16, "code", "images")
    learning_rate: float = amount(5e-6, "code", "Adam")
    weight_decay: float = amount(1e-3, "code", "Adam")
    label_smoothing: float = share(0.0, "code", "probability")
    size: int = setting(256, "code", "pixels", "images are resized to this square, here and in refinement", SIDES)
    zoom: tuple[float, float] = positive((0.5, 1.5), "code", "factor", "range of random zoom, here and in refinement")
    views_per_image: int = amount(16, "cliplit", "views", "encoded once per stage; 0: new views in every iteration")


@dataclass(frozen=True)
class Enhancement:
    """The enhancement network and its training (paper, section 3.1)."""

    width: int = count(32, "code", "channels")
    downscale: int = count(1, "code", "factor", "the illumination map is predicted at 1/downscale of the image")
    longer_side: int = amount(0, "code", "pixels", "larger images are reduced to this for the map; 0: never")
    init_std: float = amount(0.02, "code", "", "standard deviation of the initial convolution weights")
    max_illumination: float = setting(
        INFINITE, "code", "", "smooth upper bound of the illumination map; inf: ReLU", "(0, inf]"
    )
    min_illumination: float = amount(0.0, "code", "", "lower bound, with an upper one; maps are learned in stops")
    keep_highlights: bool = setting(False, "cliplit", "", "move the map of bright pixels towards 1 in results")
    batch_size: int = count(8, "code", "images")
    learning_rate: float = amount(2e-5, "code", "Adam")
    weight_decay: float = amount(1e-3, "code", "Adam")
    zoom: tuple[float, float] = positive((0.7, 1.3), "code", "factor", "range of random zoom")
    crop: float = setting(
        1.0, "cliplit", "of the side", "smallest random square crop of a batch; 1: whole images", "(0, 1]"
    )
    sizes: tuple[int, ...] = setting((), "cliplit", "pixels", "batches are resized to one of them; empty: never", SIDES)
    clip_weight: float = amount(320.0, "code", "", "weight of the CLIP-Enhance loss")
    identity_weight: float = amount(22.5, "code", "", "weight of the identity loss: 0.9 x 25")
    identity_stages: tuple[float, float, float, float, float] = amount(
        (1.0, 1.0, 1.0, 1.0, 0.5), "code", "", "weights of stem and stages 1-4"
    )
    smoothness_weight: float = amount(0.0, "cliplit", "", "weight of the smoothness loss (log of the map)")
    max_gradient_norm: float = setting(INFINITE, "cliplit", "", "longer gradients are scaled down to this", "(0, inf]")
    view_scale: float = setting(
        1.0, "cliplit", "of the side", "smallest random square view that CLIP sees; 1: the whole image", "(0, 1]"
    )
    views: int = count(1, "cliplit", "views", "random views of each image that CLIP sees")

    warmup_iterations: int = count(1000, "code", "iterations", "warm-up, with the identity loss only")
    warmup_identity_weight: float = amount(25.0, "code")
    warmup_identity_stages: tuple[float, float, float, float, float] = amount((1.0, 1.0, 1.0, 1.0, 1.0), "code")
    guard_psnr: float = threshold(8.0, "code", "dB", "below this mean PSNR, warm-up restarts with another seed")
    guard_after: int = amount(100, "code", "iterations", "the guard starts after these; each restart adds as many")
    guard_attempts: int = amount(10, "cliplit", "restarts", "after these, training fails; the code has no limit")

    iterations: int = count(2100, "code", "iterations", "network training after the warm-up")
    extend_above: float = threshold(90.0, "code", "loss", "training is extended while its last loss is higher")
    extend_by: int = count(60, "code", "iterations")
    average: int = count(30, "code", "iterations", "the best network has the lowest mean loss over these")
    look_every: int = count(20, "code", "iterations", "interval between checks for the best network")
    averaging: float = setting(
        0.0, "code", "decay", "of an exponential average that replaces the weights; 0: none", "[0, 1)"
    )


@dataclass(frozen=True)
class Refinement:
    """Prompt refinement and enhancement tuning in rounds (paper, section 3.2)."""

    rounds: int = amount(14, "code", "rounds", "8K + 1K + 14 rounds of 3.1K exceed the advised 50K iterations")
    iterations: int = amount(1000, "code", "iterations", "prompt refinement in every round; 0: none")
    tuning_iterations: int = count(2100, "code", "iterations", "network training in every round")
    batch_size: int = count(16, "code", "tuples")
    weight: float = amount(200.0, "code", "", "weight of the margin ranking loss")
    far_margin: float = share(0.9, "code", "probability", "margin of backlit to first result and to well-lit")
    near_margin_first: float = share(0.2, "code", "probability", "margin of result to well-lit in round 1")
    near_margin: float = share(0.1, "code", "probability", "margin of older to newer result and of newer to well-lit")
    extend_above: float = threshold(60.0, "code", "loss", "refinement is extended while its last loss is higher")
    extend_by: int = count(100, "code", "iterations")
    max_extensions: int = amount(10, "cliplit", "extensions", "limit for one part of a round; the code has none")


@dataclass(frozen=True)
class Engine:
    """How training computes (cliplit/engine/compute.py). It changes results by rounding only."""

    precision: str = setting(
        "auto", "cliplit", "", "of network and image encoders; auto: bf16 on a GPU, else fp32", "auto | fp32 | bf16"
    )
    deterministic: bool = setting(False, "cliplit", about="on a GPU, use slower algorithms with repeatable results")


@dataclass(frozen=True)
class Watch:
    """What to record during training. It changes no result, so changing it rebuilds nothing."""

    panel_every: int = amount(100, "cliplit", "iterations", "network training between two image panels; 0: none")
    tensorboard: bool = setting(False, "cliplit", about="also write TensorBoard events")
    save_seconds: float = amount(5.0, "cliplit", "s", "shortest time between saves; 0: save after every iteration")


@dataclass(frozen=True)
class Evaluation:
    """What to measure on the test images."""

    metrics: tuple[str, ...] = setting(("psnr", "ssim", "lpips", "musiq"), "paper 4", "pyiqa names", some=True)
    gammas: tuple[float, ...] = positive(
        (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), "cliplit", "exponent", "the best one by PSNR is `gamma`", some=True
    )
    baselines: tuple[str, ...] = setting(("histeq", "clahe"), "cliplit", "names", "simple rivals from scikit-image")
    control: bool = setting(True, "cliplit", about="also train with random CLIP weights (row `random-clip`)")
    longer: bool = setting(False, "cliplit", about="also tune equally long without refinement: the row `longer`")
    checkpoints: tuple[str, ...] = setting((), "cliplit", "NAME=FILE", "more networks, ours or released ones")
    results: tuple[str, ...] = setting((), "cliplit", "NAME=FOLDER", "results of other methods, by file stem")
    resamples: int = count(10_000, "cliplit", "resamples", "drawn from the test images for confidence intervals")
    confidence: float = setting(0.95, "cliplit", "probability", "level of the confidence intervals", "(0, 1)")


@dataclass(frozen=True)
class Studies:
    """Ablations and guidance variants (cliplit/experiments/studies.py). Every variant has one run for each seed."""

    seeds: tuple[int, ...] = setting((0, 1, 2), "cliplit", "seeds", "every variant is trained with each of them", SEEDS)
    metrics: tuple[str, ...] = setting(
        ("psnr", "ssim"), "cliplit", "pyiqa names", "metrics of the tables; the first one ranks", some=True
    )
    changes: tuple[str, ...] = setting((), "cliplit", "NAME=VALUE", "settings that all variants change")
    rounds: int = amount(2, "cliplit", "rounds", "refinement in studies that use it; the others have none")
    progress_rounds: int = count(5, "cliplit", "rounds", "refinement in the guidance study; every round is scored")
    backbones: tuple[str, ...] = setting(
        (*COMPARED, "ViT-B-32/laion2b_s34b_b79k"), "cliplit", "CLIPs", "to compare as clip.similarity"
    )


@dataclass(frozen=True)
class Settings:
    """All settings of a run."""

    profile: str = "paper"
    seed: int = setting(0, "cliplit", about="seed of every random draw", within=SEEDS)
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

    Commas separate the items of a tuple. An item with a comma needs quotes: ``prompts.initial="dark, dull","bright"``.

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
    """One row per setting: name, value, the paper's value, unit, source, description and allowed values."""
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
    """Settings as nested plain values for JSON; infinity becomes "inf"."""
    return {
        item.name: to_json(value) if is_dataclass(value := getattr(settings, item.name)) else plain(value)
        for item in fields(settings)
    }


def from_json(stored: Mapping[str, Any], strict: bool = True) -> Settings:
    """Settings stored by `to_json`.

    Args:
        strict: if False, names that this version does not know are ignored.
    Raises:
        CliplitError: names that this version does not know, unless they are `REMOVED` and have the value given there.
    """
    flat = {name: value for name, value in dotted(stored).items() if name not in REMOVED or value != REMOVED[name]}
    settings = Settings(profile=str(flat.pop("profile", "paper")))
    known = flatten(settings)
    return override(settings, {name: value for name, value in flat.items() if strict or name in known})


def dotted(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values as a flat dictionary with dotted names."""
    flat: dict[str, Any] = {}
    for group, value in nested.items():
        flat |= {f"{group}.{name}": one for name, one in value.items()} if isinstance(value, dict) else {group: value}
    return flat


def plain(value: Any) -> Any:
    """A plain value for JSON: lists for tuples, "inf" and "-inf" for infinities."""
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def override(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Settings with changes by dotted name; see `profile`."""
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
    """A value as a user would type it."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(shown, value))
    return "empty" if value == "" else str(value)


def _parse(value: Any, kind: Any) -> Any:
    """Convert a value, or its text, to a type."""
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
