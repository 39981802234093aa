"""The profiles: named settings for what people come for, each with what it costs; the published ones are `Settings()`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cliplit.errors import CliplitError, did_you_mean
from cliplit.ranges import check_values
from cliplit.settings import INFINITE, Settings, flatten, override, plain

PAPER = Settings()

# A few minutes on 2 cores; every change from the paper is there because `tiny` is a small stand-in for CLIP
# and the images are small crops (docs/deviations.md).
DEMO = replace(
    PAPER,
    profile="demo",
    clip=replace(
        PAPER.clip, similarity="tiny", identity="tiny", softmax_scale=11.0
    ),  # tiny's own scale; 100 saturates it
    data=replace(PAPER.data, train_size=128, embedded_images=192, embedded_pairs=40),
    prompts=replace(
        PAPER.prompts,
        initial=("a backlit photo", "a well lit photo"),  # from "X X ... X" the pair extrapolates: brighter is better
        iterations=20,
        learning_rate=1e-3,
        weight_decay=0.0,
        label_smoothing=0.1,
        size=128,  # what CLIP sees when the network is trained
        views_per_image=0,  # an image is drawn less than once
        zoom=(0.7, 1.3),
    ),
    enhancement=replace(
        PAPER.enhancement,
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
    refinement=replace(
        PAPER.refinement,
        rounds=2,
        iterations=4,  # more turns the pair from light to the scenes' other differences
        tuning_iterations=10,
        far_margin=0.5,  # with tiny's softmax scale probabilities are less extreme
        extend_above=INFINITE,
    ),
    engine=replace(PAPER.engine, precision="fp32"),
    watch=replace(PAPER.watch, panel_every=40),
    evaluation=replace(PAPER.evaluation, metrics=("psnr", "ssim", "entropy", "piqe")),
    studies=replace(
        PAPER.studies,
        changes=(  # a quarter of a minute on one core for each variant and seed
            *("data.train_size=96", "data.embedded_images=96", "data.embedded_pairs=16", "prompts.size=64"),
            *("enhancement.warmup_iterations=10", "enhancement.iterations=50", "refinement.tuning_iterations=10"),
        ),
        backbones=("tiny",),
    ),
)

# The enhancer that ships with the package (docs/enhancer.md): any photos, any light, any size.
PHOTOS = replace(
    DEMO,
    profile="photos",
    clip=replace(DEMO.clip, similarity="tiny2", identity="tiny2"),
    data=replace(DEMO.data, train_size=256),
    prompts=replace(DEMO.prompts, iterations=0, batch_size=32, size=96),  # `tiny2` was taught these words
    enhancement=replace(
        DEMO.enhancement,
        downscale=1,
        longer_side=128,  # the map is smooth: larger ones gain nothing
        max_illumination=1.0,  # it only lifts: whites stay white
        min_illumination=0.05,  # by 20 at most
        keep_highlights=True,
        batch_size=12,
        crop=0.5,  # several scales
        sizes=(96, 128, 160),
        learning_rate=1e-3,
        identity_weight=0.8,
        smoothness_weight=400.0,  # without it the map is in patches, of little or much light: CLIP sees nothing wrong
        max_gradient_norm=3.0,  # Adam remembers longer ones for hundreds of iterations
        warmup_iterations=1,  # it begins near the identity; more leave the sigmoid without gradient
        warmup_identity_weight=0.1,
        iterations=400,
        averaging=0.99,  # the last iterations swing, their average does not
        average=100,
    ),
    refinement=replace(DEMO.refinement, rounds=0),
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


def profile(name: str, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings of a profile, with overrides by dotted name, e.g. ``{"enhancement.iterations": 100}``.

    Values may be of the right type or strings that spell it; tuples are comma-separated.

    Raises:
        CliplitError: unknown profile or name, or a value of the wrong type; lists the valid ones.
    """
    if name not in PROFILES:
        raise CliplitError(f"unknown profile '{name}'; valid: {', '.join(PROFILES)}{did_you_mean(name, PROFILES)}")
    return check_values(override(PROFILES[name], overrides or {}))


def overrides(settings: Settings) -> dict[str, Any]:
    """The overrides that make these settings of their profile, or of `paper` if it is another version's, as plain values."""
    default = flatten(PROFILES.get(settings.profile, PAPER))
    changed = {name: value for name, value in flatten(settings).items() if value != default[name] and name != "profile"}
    return {name: plain(value) for name, value in changed.items()}
