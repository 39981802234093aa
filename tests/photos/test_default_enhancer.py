"""The enhancer that ships with the package: small, says how it was made, lifts backlit images, spares well-lit ones."""

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import cliplit
from cliplit.cli.app import app
from cliplit.data import demo_images
from cliplit.method.checkpoints import load_enhancer, read_metadata
from cliplit.profiles import PROFILES
from cliplit.settings import from_json
from cliplit_photos.inference import SHIPPED_ENHANCER

MOST_BYTES = 1_300_000
GAIN = 2.0  # dB, mean over the embedded test pairs
WELL_LIT_PSNR = 23.0  # dB, mean, of the references enhanced against themselves
WELL_LIT_SHIFT = 0.03  # of the image range, mean change of brightness of the references


@pytest.fixture(scope="module")
def pairs() -> tuple[Tensor, Tensor]:
    return demo_images.test_pairs(PROFILES["demo"])


@pytest.fixture(scope="module")
def network():
    return load_enhancer(SHIPPED_ENHANCER)


def psnr(images: Tensor, references: Tensor) -> Tensor:
    return -10 * (images - references).square().flatten(1).mean(1).log10()


def test_small_and_with_settings(network):
    assert SHIPPED_ENHANCER.stat().st_size < MOST_BYTES
    notes = read_metadata(SHIPPED_ENHANCER)
    stored = from_json(notes["settings"])
    assert notes["kind"] == "enhancer" and stored.profile == "photos"
    assert network.architecture.items() >= notes["architecture"].items()  # what came later is off


def test_made_with_the_settings_of_its_profile():
    stored = from_json(read_metadata(SHIPPED_ENHANCER)["settings"])
    profile = PROFILES["photos"]
    for group in ("clip", "guidance", "prompts", "enhancement"):
        assert getattr(stored, group) == getattr(profile, group), group
    assert stored.refinement.rounds == profile.refinement.rounds


def test_inspect_names_it():
    shown = CliRunner().invoke(app, ["inspect", str(SHIPPED_ENHANCER)])
    assert shown.exit_code == 0
    assert "photos" in shown.output and "enhancer" in shown.output


@torch.no_grad()
def test_lifts_backlit_images(network, pairs):
    backlit, references = pairs
    gain = psnr(network.enhance(backlit), references) - psnr(backlit, references)
    assert gain.mean() > GAIN and (gain > 0).float().mean() > 0.9


@torch.no_grad()
def test_changes_well_lit_images_little(network, pairs):
    references = pairs[1]
    results = network.enhance(references)
    assert psnr(results, references).mean() > WELL_LIT_PSNR
    assert (results - references).mean().abs() < WELL_LIT_SHIFT


@torch.no_grad()
def test_the_public_function_does_what_the_whole_network_does(network, pairs):
    some = pairs[0][:2]
    assert torch.allclose(cliplit.enhance(some), network.enhance(some), atol=1e-5)
