"""The network: size, released files, behaviour at zero illumination."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from cliplit.method.checkpoints import load_enhancer
from cliplit.method.enhancer import Enhancer, divide
from cliplit.method.losses import smoothness_loss

SHARED = Path(__file__).parents[3] / "shared"
OFFICIAL = SHARED / "checkpoints" / "clip_lit_official.pth"
ILLUMINATION_TOLERANCE = 1e-5
EIGHT_BIT_STEP = 1 / 255
ROUNDING = 1e-6


def test_parameter_count():
    assert sum(p.numel() for p in Enhancer().parameters()) == 278_790


def test_zero_illumination_is_finite():
    images = torch.tensor([0.0, 0.5]).view(1, 1, 1, 2).expand(1, 3, 2, 2)
    assert divide(images, torch.zeros(1, 1, 2, 2)).unique().tolist() == [0.0, 1.0]


@pytest.mark.parametrize("light", [0.05, 0.5, 1.0, 1.3])
def test_kept_highlights_are_not_clipped_and_shadows_lifted_as_before(light):
    values = torch.linspace(0, 1, 101)
    images = values.view(1, 1, 1, -1) * torch.tensor([1.0, 0.6, 0.2]).view(1, 3, 1, 1)
    kept = divide(images, torch.full((1, 1, 1, 101), light), keep_highlights=True)
    most = kept[0, 0, 0]
    assert most.max() <= 1 == most[-1] and (most.diff() > -ROUNDING).all()  # none is clipped, white stays white
    assert torch.allclose(kept[0, 1, 0], 0.6 * most) and torch.allclose(kept[0, 2, 0], 0.2 * most)  # hue
    shadows = values < light / 4
    assert torch.allclose(most[shadows], values[shadows] / light, rtol=2e-3)


def test_kept_highlights_have_a_gradient_everywhere():
    light = torch.tensor([0.0, 0.05, 1.0]).view(1, 1, 1, 3).requires_grad_()
    divide(torch.tensor([0.0, 0.0, 1.0]).expand(1, 3, 1, 3), light, keep_highlights=True).sum().backward()
    assert light.grad.isfinite().all()


def test_initialization_is_seeded_and_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    same, again, other = Enhancer(8).initialize(1), Enhancer(8).initialize(1), Enhancer(8).initialize(2)
    torch.set_rng_state(state)
    assert torch.equal(same.cond1.weight, again.cond1.weight) and not torch.equal(same.cond1.weight, other.cond1.weight)
    assert torch.equal(same.cond1.bias, again.cond1.bias)
    assert abs(same.ResidualBlock3.conv1.weight.std().item() - 0.02) < 0.002


def test_bounded_low_resolution_illumination():
    network = Enhancer(8, downscale=2, max_illumination=0.01).initialize(0)
    illumination = network(torch.rand(1, 3, 33, 41))
    assert illumination.shape == (1, 1, 33, 41) and illumination.min() > 0 and illumination.max() < 0.01


def test_between_two_bounds_the_map_is_learned_in_stops_and_begins_near_the_upper_one():
    network = Enhancer(8, max_illumination=1.0, min_illumination=0.1)
    x = torch.tensor([-30.0, -2.0, 0.0, 30.0])
    assert torch.allclose(network.positive(x), torch.tensor([0.1, 0.1**0.5, 0.76, 1.0]), atol=3e-3)
    assert network.initialize(0)(torch.rand(1, 3, 16, 16)).mean() > 0.7


def test_a_fixed_size_network_follows_the_edges_of_the_image():
    ground = torch.cat([torch.full((1, 3, 96, 50), 0.2), torch.full((1, 3, 96, 46), 0.9)], -1)
    network = Enhancer(8, max_illumination=1.0, longer_side=24).initialize(0, 0.3)
    small = F.interpolate(ground, (24, 24), mode="area")
    small_map = network(small)
    along, plain = network(ground), F.interpolate(small_map, (96, 96), mode="bilinear")
    steps = (along[..., 49] - along[..., 50]).abs().mean(), (plain[..., 49] - plain[..., 50]).abs().mean()
    assert along.shape == (1, 1, 96, 96) and steps[0] > 4 * steps[1]
    along.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    network.architecture["longer_side"] = 0
    assert torch.equal(network(small), small_map)  # no larger images are left as they are


@pytest.mark.parametrize(
    "images", [torch.rand(3, 8, 8), torch.rand(1, 1, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)]
)
def test_other_shapes_and_types_are_refused(images):
    with pytest.raises(ValueError, match="expected"):
        Enhancer(8)(images)


@pytest.mark.skipif(
    not OFFICIAL.exists(), reason="the authors' checkpoint (research use only) is not beside the project"
)
@pytest.mark.parametrize("padding", ["reflect", "zeros"])
def test_authors_checkpoint(padding):
    numbers = load_file(SHARED / "golden" / "official.safetensors")
    images = load_file(Path(__file__).parents[1] / "golden" / "golden.safetensors")["unet.input"]
    network = load_enhancer(OFFICIAL)
    with torch.no_grad():
        illumination = network(images, padding)
    expected = numbers[f"official.{padding}.illumination"]
    torch.testing.assert_close(illumination, expected, rtol=0, atol=ILLUMINATION_TOLERANCE)
    enhanced, expected = divide(images, illumination), numbers[f"official.{padding}.enhanced"]
    torch.testing.assert_close(enhanced, expected, rtol=0, atol=EIGHT_BIT_STEP)


def test_smoothness_counts_stops_between_neighbours_at_any_size():
    ramp = 2.0 ** -torch.linspace(0, 4, 64)
    images = torch.stack([torch.full((64, 64), 0.3), ramp.expand(64, 64), 0.1 * ramp.expand(64, 64).T])[:, None]
    step = (4 / 63 * math.log(2)) ** 2
    assert abs(smoothness_loss(images[:1]).item()) < 1e-9
    assert abs(smoothness_loss(images[1:2]).item() - step) < 1e-5
    assert abs(smoothness_loss(images).item() - 2 * step) < 1e-5  # summed; how dark it is does not count
    larger = F.interpolate(images, (256, 192), mode="nearest")
    assert abs(smoothness_loss(larger).item() - 2 * step) < 1e-4
