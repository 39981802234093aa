"""The guidances: RAVE's vector, the latent pair, the discriminator, one of one's own; and whole runs with each."""

import pytest
import torch

from cliplit.errors import CliplitError
from cliplit.experiments import analysis
from cliplit.method import training
from cliplit.method.checkpoints import load_guidance, save_guidance
from cliplit.method.clip import load_backbone
from cliplit.method.guidance.base import Seen
from cliplit.method.guidance.registry import BUILT_IN, is_refined, new_guidance
from cliplit.method.run import plan, start_run
from cliplit.profiles import profile

FLOAT32 = 1e-6  # a few roundings of numbers around 1


@pytest.fixture(scope="module")
def tiny():
    return load_backbone("tiny")


def features(count: int, seed: int, dim: int = 128, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype) + 0.5


def rave(tiny):
    return new_guidance(profile("smoke", {"guidance.kind": "rave"}), tiny)


def test_residual_and_threshold_equal_a_direct_computation(tiny):
    backlit, well_lit, guidance = features(5, 1), features(7, 2), rave(tiny)
    guidance.fit(backlit, well_lit)
    dark, light = (
        mean / mean.norm()
        for mean in (sum(row / row.norm() for row in side) / len(side) for side in (backlit, well_lit))
    )
    residual = (light - dark) / (light - dark).norm()
    assert torch.allclose(guidance.residual, residual, atol=FLOAT32)
    assert abs(guidance.threshold - light @ residual) < FLOAT32
    results = features(4, 3)
    expected = sum((row / row.norm() @ residual - light @ residual) ** 2 for row in results) / 4
    assert abs(guidance.loss(Seen(None, results)) - expected) < FLOAT32


def test_gradient_of_the_residual_loss_is_right(tiny):
    guidance = rave(tiny).double()
    guidance.fit(features(5, 1, dtype=torch.float64), features(7, 2, dtype=torch.float64))
    results = features(3, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: guidance.loss(Seen(None, rows)), results)


@pytest.mark.parametrize("kind", BUILT_IN)
def test_every_guidance_survives_its_file(tmp_path, tiny, kind):
    settings = profile("smoke", {"guidance.kind": kind})
    guidance = new_guidance(settings, tiny)
    if not guidance.refined:
        guidance.fit(features(4, 1), features(4, 2))
    save_guidance(guidance, tmp_path / "guidance.safetensors", settings, "prompts0", 0)
    again = load_guidance(tmp_path / "guidance.safetensors", settings, tiny)
    images = Seen(torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0)), features(2, 3))
    assert torch.equal(guidance.score(images), again.score(images)) and guidance.score(images).shape == (2,)
    assert is_refined(kind) == guidance.refined == bool([name for name in plan(settings) if name == "prompts1"])


def test_a_file_of_another_guidance_is_refused(tmp_path, tiny):
    settings = profile("smoke")
    save_guidance(new_guidance(settings, tiny), tmp_path / "pair.safetensors", settings, "prompts0", 0)
    other = profile("smoke", {"guidance.kind": "clip-lit-latent"})
    with pytest.raises(CliplitError, match="pair.safetensors: not of the guidance 'clip-lit-latent'"):
        load_guidance(tmp_path / "pair.safetensors", other, tiny)


@pytest.mark.parametrize("kind", ["clip-lit-latent", "rave", "adversarial", "none"])
def test_the_whole_method_runs_with_each(tmp_path, kind):
    run = start_run("smoke", tmp_path, overrides={"guidance.kind": kind, "evaluation.control": False})
    training.train(run)
    assert (kind == "adversarial") == (run.path / "enhancer1" / "guidance.safetensors").is_file()
    scores = analysis.prompt_scores(run, [0, 2])
    assert set(scores[2]) == {"backlit", "initial", "round1", "round2", "well-lit"}
    log = analysis.training_log(run, "enhancer2")
    assert log.notna().all(axis=None) and ("companion" in log) == (kind == "adversarial")


def test_the_discriminator_learns_along_and_gives_the_network_a_gradient(tiny):
    guidance = new_guidance(profile("smoke", {"guidance.kind": "adversarial"}), tiny)
    draw = torch.Generator().manual_seed(0)
    dark, light = (Seen(torch.rand(4, 3, 48, 48, generator=draw) * top, None) for top in (0.3, 1.0))
    optimizer = torch.optim.Adam(guidance.parameters(), 1e-3)
    before = guidance.companion_loss(dark, light)
    for _ in range(20):
        optimizer.zero_grad()
        guidance.companion_loss(dark, light).backward()
        optimizer.step()
    optimizer.zero_grad()
    assert guidance.companion_loss(dark, light) < before / 2
    assert guidance.score(dark).mean() > guidance.score(light).mean()
    results = dark.images.clone().requires_grad_()
    guidance.loss(Seen(results, None)).backward()
    assert results.grad.abs().sum() > 0 and all(parameter.grad is None for parameter in guidance.parameters())


def test_unknown_kinds_and_files_without_the_class_are_refused(tmp_path):
    with pytest.raises(
        CliplitError, match="neither one of clip-lit, clip-lit-latent, rave, adversarial, none nor FILE.py"
    ):
        is_refined("nonsense")
    (tmp_path / "own.py").write_text("Idea = 1")
    with pytest.raises(CliplitError, match="own.py: no subclass of .* named 'Idea'"):
        is_refined(f"{tmp_path / 'own.py'}:Idea")
    (tmp_path / "half.py").write_text(
        "from cliplit.method.guidance.base import Guidance\nclass Idea(Guidance):\n    score = len"
    )
    with pytest.raises(CliplitError, match="half.py: Idea has no loss; see"):
        is_refined(f"{tmp_path / 'half.py'}:Idea")
    (tmp_path / "broken.py").write_text("import nothing_of_this_name")
    with pytest.raises(CliplitError, match="broken.py: cannot be imported .ModuleNotFoundError"):
        is_refined(f"{tmp_path / 'broken.py'}:Idea")
