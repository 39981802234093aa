"""Settings: overrides are checked, stored settings come back."""

import dataclasses
import json

import pytest

from cliplit.errors import CliplitError
from cliplit.profiles import PROFILES, overrides, profile
from cliplit.settings import describe, flatten, from_json, parse_overrides, to_json


def test_paper_profile_has_the_published_values():
    paper = flatten(profile("paper"))
    published = {
        "clip.similarity": "ViT-B-32-quickgelu/openai",
        "clip.identity": "RN101-quickgelu/openai",
        "clip.softmax_scale": 100.0,
        "prompts.iterations": 8000,
        "prompts.learning_rate": 5e-6,
        "prompts.batch_size": 16,
        "enhancement.learning_rate": 2e-5,
        "enhancement.batch_size": 8,
        "enhancement.clip_weight": 16 * 20.0,
        "enhancement.identity_weight": 0.9 * 25,
        "enhancement.warmup_iterations": 1000,
        "refinement.far_margin": 0.9,
        "refinement.near_margin": 0.1,
        "data.train_size": 512,
    }
    assert {key: paper[key] for key in published} == published
    total = paper["prompts.iterations"] + paper["enhancement.warmup_iterations"] + paper["enhancement.iterations"]
    rounds = paper["refinement.rounds"] * (paper["refinement.iterations"] + paper["refinement.tuning_iterations"])
    assert total + rounds >= 50_000


@pytest.mark.parametrize("name", PROFILES)
def test_settings_survive_json(name):
    settings = profile(name, {"seed": 5, "data.backlit": "a b"})
    assert from_json(to_json(settings)) == settings


def test_a_removed_setting_is_no_obstacle_unless_it_was_used():
    settings = profile("smoke")
    stored = to_json(settings)
    stored["guidance"]["rave_shift_tokens"] = 0
    assert from_json(stored) == settings
    stored["guidance"]["rave_shift_tokens"] = 15
    assert from_json(stored, strict=False) == settings
    with pytest.raises(CliplitError, match=r"unknown setting 'guidance\.rave_shift_tokens'"):
        from_json(stored)


def test_infinities_survive_strict_json():
    settings = profile("demo", {"enhancement.extend_above": "-inf", "refinement.extend_above": "inf"})
    text = json.dumps(to_json(settings), allow_nan=False)
    assert from_json(json.loads(text)) == settings


@pytest.mark.parametrize("stored", [{"profile": [1]}, {"clip": 3}, {"clip": {"random": None}}, {"seed": {"a": 1}}])
def test_stored_settings_of_another_shape_are_one_error(stored):
    if stored == {"profile": [1]}:
        assert overrides(from_json(stored)) == {}
        return
    with pytest.raises(CliplitError, match="setting"):
        from_json(stored)


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile("demo").seed = 1


def test_overrides_of_every_type():
    text = "seed=3 clip.random=true clip.softmax_scale=20 enhancement.zoom=0.8,1.2 evaluation.metrics=psnr,ssim clip.similarity=tiny"
    settings = profile("paper", parse_overrides(text))
    assert (settings.seed, settings.clip.random, settings.clip.softmax_scale) == (3, True, 20.0)
    assert settings.enhancement.zoom == (0.8, 1.2) and settings.evaluation.metrics == ("psnr", "ssim")


@pytest.mark.parametrize(
    "key, value",
    [
        ("seed", "x"),
        ("seed", 1.5),
        ("clip.random", 1),
        ("clip.random", "yes"),
        ("enhancement.zoom", "1"),
        ("clip.identity", 3),
        ("seed", True),
        ("seed", float("inf")),
        ("clip.softmax_scale", "nan"),
        ("enhancement.zoom", "1,nan"),
    ],
)
def test_wrong_types_are_refused(key, value):
    with pytest.raises(CliplitError, match=f"setting '{key}' is of type"):
        profile("demo", {key: value})


@pytest.mark.parametrize(
    "change, allowed",
    [
        ("enhancement.iterations=0", "must be 1 or more"),
        ("data.train_size=8", "must be 16 or more"),
        ("seed=-1", "must be from 0 to 4294967295"),
        ("seed=18446744073709551616", "must be from 0 to 4294967295"),
        ("studies.seeds=0,-1", "must be from 0 to 4294967295"),
        ("evaluation.gammas=", "is empty"),
        ("evaluation.gammas=0.5,0", "must be more than 0"),
        ("refinement.rounds=-1", "must be 0 or more"),
        ("enhancement.learning_rate=-1", "must be 0 or more"),
        ("enhancement.identity_stages=1,1", "is of type tuple[float, float, float, float, float]"),
        ("data.well_lit_images=-6", "must be 0 or more"),
        ("data.embedded_crop=2", "must be more than 0, at most 1"),
        ("enhancement.max_illumination=0", "must be more than 0"),
        ("enhancement.averaging=1", "must be 0 or more, less than 1"),
        ("enhancement.zoom=2,1", "must not be larger"),
        ("backlight.stops_min=5", "must not be larger"),
        ("evaluation.confidence=1", "must be more than 0, less than 1"),
        ("engine.precision=fp16", "must be auto, fp32 or bf16"),
        ("prompts.length=100", "must be from 1 to 75"),
    ],
)
def test_values_that_make_no_sense_are_refused_with_what_is_allowed(change, allowed):
    with pytest.raises(CliplitError) as error:
        profile("demo", parse_overrides([change]))
    assert change.split("=")[0].split(".")[-1] in str(error.value) and allowed in str(error.value)


def test_every_number_says_what_it_may_be():
    kinds = {row["name"]: row for row in describe(profile("demo"))}
    numbers = [
        name
        for name, row in kinds.items()
        if any(isinstance(one, (int, float)) and not isinstance(one, bool) for one in _items(row["paper"]))
    ]
    assert len(numbers) > 80 and all(kinds[name]["within"] for name in numbers)


def _items(value):
    return value if isinstance(value, tuple) else (value,)


def test_commas_separate_items_and_quotes_keep_one():
    assert profile("demo", {"prompts.initial": ","}).prompts.initial == ("", "")
    quoted = parse_overrides(['prompts.initial="dark, dull","bright, clear"'])
    assert profile("demo", quoted).prompts.initial == ("dark, dull", "bright, clear")


def test_unknown_names_are_refused_with_the_valid_ones():
    near = "unknown setting 'enhancement.iteration'; did you mean 'enhancement.iterations'?"
    with pytest.raises(CliplitError) as error:
        profile("demo", {"enhancement.iteration": 1})
    assert str(error.value) == f"{near} (`cliplit settings` lists them)"
    with pytest.raises(
        CliplitError, match=r"unknown profile 'papre'; valid: demo, photos, smoke, paper; did you mean 'paper'\?"
    ):
        profile("papre")
    with pytest.raises(CliplitError, match="NAME=VALUE"):
        parse_overrides("seed")


def test_every_setting_has_a_source():
    assert all(row["source"] for row in describe(profile("demo")) if row["name"] != "profile")
