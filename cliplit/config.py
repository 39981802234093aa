"""Every number that changes a result, as frozen settings with default, unit and source; and the profiles.

The defaults are the published settings, so the profile `paper` is `Settings()`. Sources: "paper" is CLIP-LIT
(ICCV 2023), "code" its released training script, "cliplit" a choice of ours that the paper does not have.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, get_args, get_origin, get_type_hints

from cliplit.checks import CliplitError

INFINITE = float("inf")
COUNTS = {"iterations", "warmup_iterations", "tuning_iterations", "batch_size", "views", "width", "downscale"} | {
    *("train_size", "size", "length", "embedded_images", "embedded_pairs", "average", "look_every", "resamples")
}
MAY_BE_ZERO = {"prompts.iterations", "refinement.iterations"}  # of the counts


def setting(default: Any, source: str, unit: str = "", about: str = "") -> Any:
    """A dataclass field that carries its unit, its source and a line about it."""
    return field(default=default, metadata={"source": source, "unit": unit, "about": about})


@dataclass(frozen=True)
class Clip:
    """The frozen CLIP models (cliplit/backbone.py lists the names they can have)."""

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
    train_size: int = setting(512, "code", "pixels", "training images are resized to this square")
    test_size: int = setting(0, "cliplit", "pixels", "side of the embedded test crops; 0: the training size")
    embedded_images: int = setting(380, "paper 4", "images", "training crops per side drawn from the embedded photos")
    embedded_pairs: int = setting(40, "cliplit", "pairs", "test crops drawn from the embedded photos held out")
    well_lit_images: int = setting(0, "cliplit", "images", "how many of the well-lit training images serve; 0: all")
    embedded_well_lit: tuple[str, ...] = setting(
        ("grace_hopper",), "cliplit", "names", "embedded photos that serve as well-lit"
    )
    embedded_crop: float = setting(0.45, "cliplit", "of the shorter side", "smallest crop of an embedded photo")


@dataclass(frozen=True)
class Backlight:
    """The backlit capture that is simulated for the embedded images (cliplit/relight.py); drawn uniformly per image."""

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
    photons: float = setting(4000.0, "cliplit", "electrons", "at white: shot noise has the variance light / photons")
    read_noise: float = setting(0.0015, "cliplit", "of white", "standard deviation of noise in the dark")


@dataclass(frozen=True)
class Guidance:
    """What guides the network (cliplit/guidance/); the learned prompt pair of the paper, and its rivals."""

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
    length: int = setting(16, "code", "words", 'of "X X ... X"')
    iterations: int = setting(8000, "code", "iterations", "0: the pair stays what it starts from")
    batch_size: int = setting(16, "code", "images")
    learning_rate: float = setting(5e-6, "code", "Adam")
    weight_decay: float = setting(1e-3, "code", "Adam")
    label_smoothing: float = setting(0.0, "code", "probability")
    size: int = setting(256, "code", "pixels", "images are resized to this square, here and in refinement")
    zoom: tuple[float, float] = setting((0.5, 1.5), "code", "factor", "range of random zoom, here and in refinement")
    views_per_image: int = setting(
        16, "cliplit", "views", "encoded once, here and in every round; 0: new ones in every iteration, as in the code"
    )


@dataclass(frozen=True)
class Enhancement:
    """The enhancement network and its training (paper, section 3.1)."""

    width: int = setting(32, "code", "channels")
    downscale: int = setting(1, "code", "factor", "the illumination map is predicted at 1/downscale of the image")
    init_std: float = setting(0.02, "code", "", "standard deviation of the first weights of every convolution")
    max_illumination: float = setting(INFINITE, "code", "", "smooth upper bound of the illumination map; inf: ReLU")
    batch_size: int = setting(8, "code", "images")
    learning_rate: float = setting(2e-5, "code", "Adam")
    weight_decay: float = setting(1e-3, "code", "Adam")
    zoom: tuple[float, float] = setting((0.7, 1.3), "code", "factor", "range of random zoom")
    crop: float = setting(1.0, "cliplit", "of the side", "smallest random square of a batch that is trained on; 1: all")
    sizes: tuple[int, ...] = setting((), "cliplit", "pixels", "a batch is resized to one of these; empty: never")
    clip_weight: float = setting(320.0, "code", "", "of the CLIP-Enhance loss")
    identity_weight: float = setting(22.5, "code", "", "of the identity loss: 0.9 x 25")
    identity_stages: tuple[float, ...] = setting((1.0, 1.0, 1.0, 1.0, 0.5), "code", "", "of stem and stages 1-4")
    view_scale: float = setting(1.0, "cliplit", "of the side", "smallest random square view that CLIP sees; 1: all")
    views: int = setting(1, "cliplit", "views", "random views of each image that CLIP sees")

    warmup_iterations: int = setting(1000, "code", "iterations", "identity loss only")
    warmup_identity_weight: float = setting(25.0, "code")
    warmup_identity_stages: tuple[float, ...] = setting((1.0, 1.0, 1.0, 1.0, 1.0), "code")
    guard_psnr: float = setting(8.0, "code", "dB", "warm-up starts anew with another seed below this mean PSNR")
    guard_after: int = setting(100, "code", "iterations", "before the guard looks; also added at a new start")
    guard_attempts: int = setting(10, "cliplit", "new starts", "before giving up; unbounded in the code")

    iterations: int = setting(2100, "code", "iterations", "of every round")
    extend_above: float = setting(90.0, "code", "loss", "a round goes on while its last loss is above")
    extend_by: int = setting(60, "code", "iterations")
    average: int = setting(30, "code", "iterations", "the best network has the best mean loss of so many")
    look_every: int = setting(20, "code", "iterations", "between looks for the best network")


@dataclass(frozen=True)
class Refinement:
    """Prompt refinement and enhancement tuning in rounds (paper, section 3.2)."""

    rounds: int = setting(14, "code", "rounds", "8K + 1K + 14 rounds of 3.1K exceed the advised 50K iterations")
    iterations: int = setting(1000, "code", "iterations", "of prompt refinement in every round; 0: no refinement")
    tuning_iterations: int = setting(2100, "code", "iterations", "of the enhancement network in every round")
    batch_size: int = setting(16, "code", "tuples")
    weight: float = setting(200.0, "code", "", "of the margin ranking loss")
    far_margin: float = setting(0.9, "code", "probability", "backlit to first result, and to well-lit")
    near_margin_first: float = setting(0.2, "code", "probability", "result to well-lit, in round 1")
    near_margin: float = setting(0.1, "code", "probability", "older to newer result to well-lit, later")
    extend_above: float = setting(60.0, "code", "loss", "refinement goes on while its last loss is above")
    extend_by: int = setting(100, "code", "iterations")
    max_extensions: int = setting(10, "cliplit", "extensions", "of one part of a round; unbounded in the code")


@dataclass(frozen=True)
class Engine:
    """How training computes (cliplit/engine.py); changes results by rounding only."""

    precision: str = setting("auto", "cliplit", "", "of network and image encoders: fp32, bf16, auto (bf16 on a GPU)")
    compile: bool = setting(False, "cliplit", about="torch.compile of network and image encoders")
    deterministic: bool = setting(False, "cliplit", about="slower algorithms with the same bytes every time, on a GPU")


@dataclass(frozen=True)
class Watch:
    """What is recorded for those who watch a run; changes no result, so nothing is made anew for it."""

    panel_every: int = setting(100, "cliplit", "iterations", "of the network between panels of images; 0: none")
    tensorboard: bool = setting(False, "cliplit", about="also write events for TensorBoard")
    save_seconds: float = setting(5.0, "cliplit", "s", "between saves of the progress; more if a save takes long")


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
    resamples: int = setting(10_000, "cliplit", "resamples", "of the test images, for confidence intervals")
    confidence: float = setting(0.95, "cliplit", "probability", "of the confidence intervals")


@dataclass(frozen=True)
class Studies:
    """Ablations and guidance variants (cliplit/studies.py): every variant is a run of its own, for every seed."""

    seeds: tuple[int, ...] = setting((0, 1, 2), "cliplit", "seeds", "of every variant")
    metrics: tuple[str, ...] = setting(("psnr", "ssim"), "cliplit", "pyiqa names", "in the tables; the first one ranks")
    changes: tuple[str, ...] = setting(
        (), "cliplit", "NAME=VALUE", "settings of all variants that differ from the run's"
    )
    rounds: int = setting(2, "cliplit", "rounds", "of refinement where a study has them; the others have none")
    progress_rounds: int = setting(
        5, "cliplit", "rounds", "of the guidances, in whose course their scores are compared"
    )
    backbones: tuple[str, ...] = setting(
        (
            "ViT-B-32-quickgelu/openai",
            "ViT-B-16-quickgelu/openai",
            "RN50-quickgelu/openai",
            "ViT-B-32/laion2b_s34b_b79k",
        ),
        "cliplit",
        "CLIPs",
        "compared as clip.similarity",
    )


@dataclass(frozen=True)
class Settings:
    """All settings of a run."""

    profile: str = "paper"
    seed: int = setting(0, "cliplit", about="of every random draw")
    device: str = setting("auto", "cliplit", about="auto, cpu, cuda, cuda:1 ...")
    clip: Clip = Clip()
    data: Data = Data()
    backlight: Backlight = Backlight()
    guidance: Guidance = Guidance()
    prompts: Prompts = Prompts()
    enhancement: Enhancement = Enhancement()
    refinement: Refinement = Refinement()
    engine: Engine = Engine()
    watch: Watch = Watch()
    evaluation: Evaluation = Evaluation()
    studies: Studies = Studies()


PAPER = Settings()

# A few minutes on 2 cores; every change from the paper is there because `tiny` is a small stand-in for CLIP
# and the images are small crops (README, "Deviations from the paper").
DEMO = Settings(
    profile="demo",
    clip=Clip(similarity="tiny", identity="tiny", softmax_scale=11.0),  # tiny's own scale; 100 saturates it
    data=Data(train_size=128, embedded_images=192, embedded_pairs=40),
    prompts=Prompts(
        initial=("a backlit photo", "a well lit photo"),  # from "X X ... X" the pair extrapolates: brighter is better
        iterations=20,
        learning_rate=1e-3,
        weight_decay=0.0,
        label_smoothing=0.1,
        size=128,  # what CLIP sees when the network is trained
        views_per_image=0,  # an image is drawn less than once
        zoom=(0.7, 1.3),
    ),
    enhancement=Enhancement(
        width=16,
        init_std=0.06,  # with 0.02 the network is blind to its input at first; larger ones ripple
        downscale=2,  # at full size the map of such small images ripples at borders
        max_illumination=2.0,  # far above 1 it darkens highlights instead of lifting shadows
        learning_rate=7e-4,
        weight_decay=0.0,
        identity_weight=12.0,
        view_scale=0.6,  # random views keep the results free of patterns that please one view only
        views=2,
        warmup_iterations=15,
        iterations=60,
        extend_above=INFINITE,
    ),
    refinement=Refinement(
        rounds=2,
        iterations=4,  # more turns the pair from light to the scenes' other differences
        tuning_iterations=10,
        far_margin=0.5,  # with tiny's softmax scale probabilities are less extreme
        extend_above=INFINITE,
    ),
    engine=Engine(precision="fp32"),
    watch=Watch(panel_every=40),
    evaluation=Evaluation(metrics=("psnr", "ssim", "entropy", "piqe")),
    studies=Studies(
        changes=(  # a quarter of a minute on one core for each variant and seed
            *("data.train_size=96", "data.embedded_images=96", "data.embedded_pairs=16", "prompts.size=64"),
            *("enhancement.warmup_iterations=10", "enhancement.iterations=50", "refinement.tuning_iterations=10"),
        ),
        backbones=("tiny",),
    ),
)

# The enhancer that ships with the package (README, "The default enhancer"): any photos, any light, any size.
PHOTOS = replace(
    DEMO,
    profile="photos",
    data=replace(DEMO.data, train_size=256),
    prompts=replace(DEMO.prompts, iterations=15, batch_size=32, size=96),  # more: brighter than well-lit
    enhancement=replace(
        DEMO.enhancement,
        init_std=0.02,
        crop=0.4,  # many scales: a photo of 12 megapixels shows a network of this reach little but smooth patches
        sizes=(96, 128, 160),
        warmup_iterations=30,
        iterations=250,  # longer ones drift: brighter and brighter, and more contrast
        average=100,
    ),
    refinement=replace(DEMO.refinement, rounds=0),  # with `tiny`, rounds made it worse on held-out pairs
)

# Seconds, for tests: too short to learn anything.
SMOKE = replace(
    DEMO,
    profile="smoke",
    data=replace(DEMO.data, train_size=64, embedded_images=8, embedded_pairs=3),
    prompts=replace(DEMO.prompts, iterations=4, batch_size=4, size=64),
    enhancement=replace(DEMO.enhancement, width=8, batch_size=2, warmup_iterations=4, iterations=4, look_every=2),
    refinement=replace(DEMO.refinement, iterations=3, tuning_iterations=3, batch_size=2),
    watch=replace(DEMO.watch, panel_every=2),
    evaluation=replace(DEMO.evaluation, metrics=("psnr", "ssim", "entropy"), gammas=(0.5, 1.0)),
    studies=replace(
        DEMO.studies,
        seeds=(0,),
        changes=("data.train_size=32", "data.embedded_images=4", "data.embedded_pairs=2"),
        rounds=1,
        progress_rounds=2,
    ),
)

PROFILES = {"demo": DEMO, "photos": PHOTOS, "smoke": SMOKE, "paper": PAPER}

# Degrees of simulated backlight for controlled experiments (`cliplit data synthesize`).
SEVERITIES = {
    "mild": Backlight(stops_min=1.0, stops_max=2.0),
    "medium": Backlight(stops_min=2.5, stops_max=3.5),
    "severe": Backlight(stops_min=4.0, stops_max=5.0),
}
LEVELS = SEVERITIES | {"mixed": Backlight(stops_min=0.0, stops_max=4.5)}  # from well-lit to severe, to train on


def profile(name: str, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings of a profile, with overrides by dotted name, e.g. ``{"enhancement.iterations": 100}``.

    Values may be of the right type or strings that spell it; tuples are comma-separated.

    Raises:
        CliplitError: unknown profile or name, or a value of the wrong type; lists the valid ones.
    """
    if name not in PROFILES:
        raise CliplitError(f"unknown profile '{name}'; valid: {', '.join(PROFILES)}")
    settings = PROFILES[name]
    for key, value in (overrides or {}).items():
        settings = override(settings, key, value)
    return settings


def parse_overrides(text: str) -> dict[str, str]:
    """``"a.b=1 c=2"`` as a dictionary.

    Raises:
        CliplitError: a part that is not NAME=VALUE.
    """
    pairs = [part.partition("=") for part in text.split()]
    bad = ["".join(pair) for pair in pairs if not pair[0] or not pair[1]]
    if bad:
        raise CliplitError(f"override '{bad[0]}' is not of the form NAME=VALUE")
    return {key: value for key, _, value in pairs}


def flatten(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Settings as ``{"group.name": value}``, in the order of their definition."""
    flat = {}
    for item in fields(settings):
        value = getattr(settings, item.name)
        name = prefix + item.name
        flat.update(flatten(value, name + ".") if is_dataclass(value) else {name: value})
    return flat


def overrides(settings: Settings) -> dict[str, Any]:
    """The overrides that make these settings of their profile, as plain values."""
    default = flatten(PROFILES[settings.profile])
    return {name: _plain(value) for name, value in flatten(settings).items() if value != default[name]}


def describe(settings: Settings) -> list[dict[str, Any]]:
    """One row per setting: name, value, the paper's value, unit, source and a line about it."""
    paper = flatten(PAPER)
    rows = []
    for name, value in flatten(settings).items():
        group, _, leaf = name.rpartition(".")
        owner = getattr(Settings, group) if group else Settings
        metadata = next(item.metadata for item in fields(owner) if item.name == leaf)
        rows.append({"name": name, "value": value, "paper": paper[name]} | dict(metadata))
    return rows


def to_json(settings: Any) -> dict[str, Any]:
    """Settings as nested plain values that survive JSON; infinity becomes "inf"."""
    return {
        item.name: to_json(value) if is_dataclass(value := getattr(settings, item.name)) else _plain(value)
        for item in fields(settings)
    }


def from_json(stored: Mapping[str, Any]) -> Settings:
    """Settings stored by `to_json`.

    Raises:
        CliplitError: names that this version does not know.
    """
    settings = Settings(profile=stored.get("profile", "paper"))
    for group, values in stored.items():
        for leaf, value in values.items() if isinstance(values, Mapping) else [(None, values)]:
            key = f"{group}.{leaf}" if leaf else group
            settings = settings if key == "profile" else override(settings, key, value)
    return settings


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return "inf" if value == INFINITE else value


def override(settings: Settings, key: str, value: Any) -> Settings:
    """Settings with one of them changed, by its dotted name; see `profile`."""
    valid = [name for name in flatten(settings) if name != "profile"]
    if key not in valid:
        near = difflib.get_close_matches(key, valid, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise CliplitError(f"unknown setting '{key}'; {hint}valid: {', '.join(valid)}")
    group, _, leaf = key.rpartition(".")
    owner = getattr(settings, group) if group else settings
    converted = _convert(key, value, get_type_hints(type(owner))[leaf])
    least = 0 if key in MAY_BE_ZERO else 1
    if leaf in COUNTS and converted < least:
        raise CliplitError(f"setting '{key}' is at least {least}, got {value!r}")
    changed = replace(owner, **{leaf: converted})
    return replace(settings, **{group: changed}) if group else changed


def _convert(key: str, value: Any, kind: Any) -> Any:
    try:
        return _parse(value, kind)
    except (TypeError, ValueError):
        name = str(kind) if get_origin(kind) else kind.__name__
        raise CliplitError(f"setting '{key}' is of type {name}, got {value!r}") from None


def _parse(value: Any, kind: Any) -> Any:
    if get_origin(kind) is tuple:
        items = list(filter(None, value.split(","))) if isinstance(value, str) else list(value)
        kinds = get_args(kind)
        if kinds[-1] is not ... and len(items) != len(kinds):
            raise ValueError
        return tuple(_parse(item.strip() if isinstance(item, str) else item, kinds[0]) for item in items)
    if kind is bool:
        if isinstance(value, str):
            return {"true": True, "false": False}[value.lower()] if value.lower() in ("true", "false") else int("")
        if not isinstance(value, bool):
            raise ValueError
        return value
    if (
        isinstance(value, bool)
        or (kind is int and isinstance(value, float))
        or (kind is str and not isinstance(value, str))
    ):
        raise ValueError
    return kind(value)
