"""Relighting: ranges, determinism, and what backlight does to foreground and background."""

import faults
import pytest
import torch
from torch import Generator

from cliplit.data import relight

KINDS = {**faults.LIGHTS, **faults.ARTEFACTS}


@pytest.fixture
def scenes():
    """Two scenes ``(2, 3, 48, 64)``: bright sky above a darker, textured ground."""
    texture = torch.rand(2, 3, 48, 64, generator=Generator().manual_seed(0))
    sky = (torch.linspace(0, 1, 48) < 0.5).float().view(-1, 1)
    return (0.25 + 0.1 * texture) * (1 - sky) + (0.8 + 0.1 * texture) * sky


def test_linear_light_round_trip():
    values = torch.arange(256) / 255
    images = values.view(1, 1, 16, 16).expand(1, 3, -1, -1)
    back = relight.linear_to_srgb(relight.srgb_to_linear(images))
    assert torch.equal((back * 255).round(), (images * 255).round())
    assert relight.srgb_to_linear(torch.tensor(0.5)).item() == pytest.approx(0.2140, abs=1e-4)


def test_expose_counts_in_stops(scenes):
    before, after = (relight.srgb_to_linear(x) for x in (scenes, relight.expose(scenes, -3.0)))
    torch.testing.assert_close(after, before / 8, atol=1e-5, rtol=1e-4)


def test_mask_takes_the_dark_ground(scenes):
    mask = relight.foreground_mask(scenes, Generator().manual_seed(0))
    assert mask.shape == (2, 1, 48, 64)
    assert mask.min() >= 0 and mask.max() <= 1
    assert 0.35 <= mask.mean() <= 0.75
    assert mask[:, :, 30:].mean() > 0.9
    assert mask[:, :, :18].mean() < 0.1


def test_backlit_darkens_foreground_and_keeps_background(scenes):
    settings = relight.Backlight(stops_min=3, stops_max=3, background_stops=0, read_noise=0)
    mask = relight.foreground_mask(scenes, Generator().manual_seed(3), settings)
    dark, _ = relight.backlit(scenes, Generator().manual_seed(3), settings)  # draws the same mask first
    stops = (relight.srgb_to_linear(dark) / relight.srgb_to_linear(scenes)).log2()
    inside, outside = ((m.expand_as(scenes)) for m in (mask == 1, mask == 0))
    assert stops[inside].mean() == pytest.approx(-3, abs=0.1)
    assert stops[outside].mean() == pytest.approx(0, abs=0.02)


def test_light_can_be_missing_overall_too(scenes):
    many = scenes[:1].expand(32, -1, -1, -1)
    settings = relight.Backlight(stops_min=3, stops_max=3, background_stops=0, read_noise=0, overall=True)
    dark, drawn = relight.backlit(many, Generator().manual_seed(3), settings)
    share = drawn["overall"]
    assert (share == 0).any() and (share == 1).any() and ((share > 0) & (share < 1)).any()
    stops = (relight.srgb_to_linear(dark) / relight.srgb_to_linear(many)).log2()
    sky = stops[:, :, :12].mean((1, 2, 3))
    assert torch.allclose(sky, -3 * share, atol=0.1)
    assert stops[:, :, 40:].mean() == pytest.approx(-3, abs=0.2)


def test_a_share_of_the_pictures_keeps_its_light(scenes):
    many = scenes[:1].expand(64, -1, -1, -1)
    settings = relight.Backlight(stops_min=2, stops_max=4, read_noise=0, photons=1e9, untouched=0.25)
    dark, drawn = relight.backlit(many, Generator().manual_seed(3), settings)
    kept = drawn["stops"] == 0
    assert 8 <= kept.sum() <= 24 and (drawn["background_stops"][kept] == 0).all() and drawn["stops"][~kept].min() >= 2
    assert torch.allclose(dark[kept], many[kept], atol=0.6 / 255)


def test_strength_chooses_the_stops(scenes):
    images = scenes[:1].expand(2, -1, -1, -1)
    dark, _ = relight.backlit(images, Generator().manual_seed(0), strength=torch.tensor([0.0, 1.0]).view(2, 1, 1, 1))
    assert dark[1, :, 30:].mean() < dark[0, :, 30:].mean()


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_stay_in_range_and_repeat(kind, scenes):
    strength = torch.tensor([0.2, 0.9]).view(2, 1, 1, 1)
    first, again, other = (KINDS[kind](scenes, Generator().manual_seed(s), strength) for s in (1, 1, 2))
    assert first.shape == scenes.shape and first.dtype == torch.float32
    assert torch.isfinite(first).all() and first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, again)
    if kind != "greyed":  # the one kind without randomness
        assert not torch.equal(first, other)


def test_lifting_by_the_ideal_illumination_recovers_the_scene(scenes):
    whole = faults.lifted(scenes, Generator().manual_seed(0), 1.0)
    half = faults.lifted(scenes, Generator().manual_seed(0), 0.5)
    assert (whole - scenes).abs().mean() < 0.5 * (half - scenes).abs().mean()


def test_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="shape"):
        relight.foreground_mask(torch.zeros(3, 8, 8), Generator())
