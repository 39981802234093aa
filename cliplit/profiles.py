"""The profiles: named settings for different purposes. The published settings are `Settings()`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cliplit.errors import CliplitError, did_you_mean
from cliplit.settings import INFINITE, Settings, flatten, override, plain
from cliplit.values import check_values

PAPER = Settings()

# A few minutes on 2 cores. The settings differ from the paper because `tiny2` is a small stand-in for CLIP, the images
# are crops of five photos, and the training is two hundred times shorter (docs/deviations.md).
DEMO = replace(
    PAPER,
    profile="demo",
    clip=replace(
        PAPER.clip,
        similarity="tiny2",
        identity="tiny2",
        softmax_scale=5.0,  # with 100 the score saturates; with 5 it has a useful gradient everywhere
    ),
    data=replace(
        PAPER.data,
        train_size=128,
        test_size=256,
        embedded_images=96,
        embedded_pairs=12,
        # Both sides show the same few scenes in different crops. Otherwise the prompts would learn scenes, not light.
        embedded_backlit=("motorcycle", "coffee", "grace_hopper"),
        embedded_well_lit=("motorcycle_right", "coffee", "grace_hopper"),
    ),
    backlight=replace(PAPER.backlight, photons=64000.0, read_noise=0.0004),  # photos are reduced to a quarter
    prompts=replace(
        PAPER.prompts,
        iterations=100,  # few, at a higher learning rate
        learning_rate=1e-3,
        weight_decay=0.0,
        label_smoothing=0.1,  # without it, prompts overfit to so few scenes
        size=96,  # input size of `tiny2`
        views_per_image=2,
        zoom=(0.7, 1.3),
    ),
    enhancement=replace(
        PAPER.enhancement,
        width=16,
        longer_side=48,  # the map is smooth, so a larger size gains nothing
        init_std=0.1,  # with 0.02 the network ignores its input at first, and brightens everything equally
        max_illumination=1.0,  # the network only brightens, so white stays white
        min_illumination=0.2,  # a gain of 5 at most
        keep_highlights=True,
        learning_rate=2e-4,  # higher, because there are few iterations
        weight_decay=0.0,
        identity_weight=1.5,  # with 5 the results stay darker than the well-lit photos
        smoothness_weight=400.0,  # without it the map becomes patchy, and CLIP does not penalise that
        max_gradient_norm=1e-4,  # all gradients are longer, so all steps have the same length
        view_scale=0.6,  # random views avoid patterns that lower the loss of one view only
        views=2,
        warmup_iterations=1,  # the network starts near the identity; more iterations would saturate the sigmoid
        warmup_identity_weight=0.1,
        iterations=100,
        extend_above=INFINITE,
        average=60,
        averaging=0.99,  # the last iterations oscillate, but their average is stable
    ),
    refinement=replace(
        PAPER.refinement,
        rounds=2,  # more gain nothing, since good results then differ from well-lit photos in content, not light
        iterations=60,
        tuning_iterations=100,
        far_margin=0.2,  # a wider margin leaves no room between results and well-lit photos
        extend_above=INFINITE,
    ),
    engine=replace(PAPER.engine, precision="fp32"),
    watch=replace(PAPER.watch, panel_every=40),
    evaluation=replace(PAPER.evaluation, metrics=("psnr", "ssim", "entropy", "piqe"), longer=True),
    studies=replace(
        PAPER.studies,
        changes=(  # one or two minutes on one core for each variant and seed
            *("data.embedded_images=48", "data.embedded_pairs=6", "data.test_size=128", "prompts.iterations=60"),
            *("enhancement.iterations=60", "refinement.iterations=30", "refinement.tuning_iterations=40"),
        ),
        backbones=("tiny2", "tiny"),
    ),
)

# The enhancer that comes with the package (docs/enhancer.md), for photos of any content, light and size.
PHOTOS = replace(
    DEMO,
    profile="photos",
    clip=replace(DEMO.clip, softmax_scale=11.0),
    data=replace(PAPER.data, train_size=256, embedded_images=192),
    backlight=PAPER.backlight,
    prompts=replace(
        DEMO.prompts,
        initial=("a backlit photo", "a well lit photo"),  # `tiny2` was trained with these words
        batch_size=32,
        views_per_image=0,
    ),
    enhancement=replace(
        DEMO.enhancement,
        longer_side=128,
        init_std=0.06,
        min_illumination=0.05,  # a gain of 20 at most
        batch_size=12,
        crop=0.5,  # for several scales
        sizes=(96, 128, 160),
        learning_rate=1e-3,
        identity_weight=0.8,
        max_gradient_norm=3.0,  # longer gradients would affect Adam for hundreds of iterations
        iterations=400,
        average=100,
    ),
)

# Seconds, for tests. It is too short to learn anything. `tiny` is the quickest CLIP.
SMOKE = replace(
    DEMO,
    profile="smoke",
    clip=replace(DEMO.clip, similarity="tiny", identity="tiny", softmax_scale=11.0),
    data=replace(PAPER.data, train_size=64, embedded_images=8, embedded_pairs=3),
    backlight=PAPER.backlight,
    prompts=replace(PHOTOS.prompts, iterations=4, batch_size=4, size=64),
    enhancement=replace(
        PAPER.enhancement,
        width=8,
        downscale=2,
        init_std=0.06,
        max_illumination=2.0,
        batch_size=2,
        learning_rate=7e-4,
        weight_decay=0.0,
        identity_weight=12.0,
        view_scale=0.6,
        views=2,
        warmup_iterations=4,
        iterations=4,
        extend_above=INFINITE,
        look_every=2,
    ),
    refinement=replace(DEMO.refinement, iterations=3, tuning_iterations=3, batch_size=2, far_margin=0.5),
    watch=replace(DEMO.watch, panel_every=2),
    evaluation=replace(DEMO.evaluation, metrics=("psnr", "ssim", "entropy"), gammas=(0.5, 1.0)),
    studies=replace(
        PAPER.studies,
        seeds=(0,),
        changes=("data.train_size=32", "data.embedded_images=4", "data.embedded_pairs=2"),
        rounds=1,
        progress_rounds=2,
        backbones=("tiny",),
    ),
)

PROFILES = {"demo": DEMO, "photos": PHOTOS, "smoke": SMOKE, "paper": PAPER}


def profile(name: str, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Settings of a profile, with overrides by dotted name, e.g. ``{"enhancement.iterations": 100}``.

    Values may have the right type or be strings. Tuples in strings are comma-separated.

    Raises:
        CliplitError: unknown profile or name, or a value of the wrong type. The message lists valid ones.
    """
    if name not in PROFILES:
        raise CliplitError(f"unknown profile '{name}'; valid: {', '.join(PROFILES)}{did_you_mean(name, PROFILES)}")
    return check_values(override(PROFILES[name], overrides or {}))


def overrides(settings: Settings) -> dict[str, Any]:
    """The overrides that turn the profile (or `paper`, if it is unknown) into these settings, as plain values."""
    default = flatten(PROFILES.get(settings.profile, PAPER))
    changed = {name: value for name, value in flatten(settings).items() if value != default[name] and name != "profile"}
    return {name: plain(value) for name, value in changed.items()}
