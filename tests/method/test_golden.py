"""Numbers of the released implementation, reproduced (tests/golden/README.md says how they were made)."""

from pathlib import Path

import pytest
import torch
from golden_models import golden_numbers, random_enhancer, resnet_backbone, vit_backbone

from cliplit.method import losses

ILLUMINATION_TOLERANCE = 1e-5  # absolute
VALUE_TOLERANCE = 1e-6  # relative to the largest value: text features and losses
GRADIENT_TOLERANCE = 1e-6  # relative to the largest component
END = 17  # end token of the 16-word prompt


@pytest.fixture(scope="module")
def golden():
    return golden_numbers()


@pytest.fixture
def vit():
    return vit_backbone()


@pytest.fixture(scope="module")
def resnet():
    return resnet_backbone()


def close(ours, theirs, tolerance=VALUE_TOLERANCE):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * max(1.0, theirs.abs().max().item()))


def relative_error(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def same_gradient(gradient, golden):
    """`gradient(dtype)` equals the golden one, or is as near to it as float32 arithmetic allows.

    The softmax's factor of 100 magnifies rounding: two of the golden gradients are themselves about 1e-5 from
    exact arithmetic, and differ by as much between processors.
    """
    rounding = relative_error(gradient(torch.float64), golden)
    assert rounding < 1e-4
    assert relative_error(gradient(torch.float32), golden) < GRADIENT_TOLERANCE + 2 * rounding


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
def test_illumination(golden, padding):
    with torch.no_grad():
        ours = random_enhancer()(golden["unet.input"], padding)
    close(ours, golden[f"unet.{padding}.illumination"], ILLUMINATION_TOLERANCE)


def test_prompt_tokens(golden, vit):
    ids, end = vit.tokenize(" ".join(["X"] * 16))
    assert end == END and torch.equal(ids, golden["prompt.token_ids"].to(ids.dtype))


def test_initial_embedding(golden, vit):
    """The table of the tiny model is not stored, but its rows for this prompt are."""
    with torch.no_grad():
        vit.text.token_embedding.weight[golden["prompt.token_ids"][0].long()] = golden["prompt.initial_embedding"][0]
        embedding, end = vit.embed(" ".join(["X"] * 16))
    assert end == END and torch.equal(embedding, golden["prompt.initial_embedding"])


def test_every_golden_number_is_used(golden):
    source = Path(__file__).read_text()
    groups = {key.split(".")[0] for key in golden}
    assert groups == {"unet", "prompt", "clip", "enhance", "identity", "init", "rank"}
    assert all(f'"{group}.' in source for group in groups)


def test_text_features_from_18_positions(golden, vit):
    close(vit.encode_prompts(golden["prompt.embedding"], END), golden["prompt.text_features"])


def test_image_features(golden, vit):
    close(vit.encode_image(golden["enhance.images"]), golden["clip.image_features"])


def test_clip_enhance_loss(golden, vit):
    def gradient(dtype):
        images = golden["enhance.images"].to(dtype, copy=True).requires_grad_()
        text = golden["prompt.text_features"].to(dtype)
        loss = losses.clip_enhance_loss(vit.to(dtype).encode_image(images), text)
        loss.backward()
        close(loss, golden["enhance.loss"].reshape(()).to(dtype))
        return images.grad

    same_gradient(gradient, golden["enhance.grad"])


def test_activations(golden, resnet):
    activations = resnet.encode_activations(golden["enhance.images"])
    for stage, activation in enumerate(activations):
        ours = torch.stack([activation.mean(), activation.std()])
        close(ours, golden[f"identity.stage{stage}.mean_std"])


@pytest.mark.parametrize("phase, weights", [("warmup", (1, 1, 1, 1, 1)), ("enhance", (1, 1, 1, 1, 0.5))])
def test_identity_loss(golden, resnet, phase, weights):
    predicted = golden["identity.pred"].clone().requires_grad_()
    target = resnet.encode_activations(golden["enhance.images"])
    loss = losses.identity_loss(resnet.encode_activations(predicted), target, weights)
    loss.backward()
    close(loss, golden[f"identity.{phase}.loss"].reshape(()))
    assert relative_error(predicted.grad, golden[f"identity.{phase}.grad"]) < GRADIENT_TOLERANCE


def test_prompt_initialization_loss(golden, vit):
    def gradient(dtype):
        embedding = golden["prompt.embedding"].to(dtype, copy=True).requires_grad_()
        images = golden["clip.image_features"].to(dtype)
        text = vit.to(dtype).encode_prompts(embedding, END)
        close(losses.similarity_logits(images, text), golden["init.logits"].to(dtype))
        loss = losses.prompt_initialization_loss(images, text, golden["init.labels"].long())
        loss.backward()
        close(loss, golden["init.loss"].reshape(()).to(dtype))
        return embedding.grad

    same_gradient(gradient, golden["init.grad"])


@pytest.mark.parametrize(
    "name, groups, far, near",
    [("round0", (0, 3), 1.0, 0.0), ("round1", (0, 1, 3), 0.9, 0.2), ("round2", (0, 1, 2, 3), 0.9, 0.1)],
)
def test_margin_ranking_loss(golden, name, groups, far, near):
    scores = [golden[f"rank.scores{group}"] for group in groups]
    close(losses.margin_ranking_loss(scores, far, near), golden[f"rank.{name}"].reshape(()))
