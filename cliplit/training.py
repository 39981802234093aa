"""The stages of CLIP-LIT. Each function is one stage of a run: it loads what it needs, and resumes.

initialize_prompts      prompts0     learn the initial prompt pair               paper, section 3.1
warm_up                 warmup       identity loss only                          released code
train_enhancer          enhancer0    CLIP-Enhance and identity loss              paper, section 3.1
refine_prompts          prompts<k>   margin ranking of inputs and results        paper, section 3.2
train_enhancer          enhancer<k>  tuning with the refined prompts             paper, section 3.2
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliplit import losses
from cliplit.backbone import ClipBackbone, load_backbone
from cliplit.checkpoints import PromptPair, load_enhancer, load_prompts, save_enhancer, save_prompts
from cliplit.checks import CliplitError
from cliplit.config import Settings
from cliplit.data import TrainingImages, prepare_data, training_images
from cliplit.devices import find_device
from cliplit.enhancer import Enhancer
from cliplit.images import to_tensor, to_uint8
from cliplit.loops import Loop
from cliplit.runs import Run
from cliplit.sampling import augment, batch_indices, generator, random_view


@dataclass(frozen=True)
class Backbones:
    """The two frozen CLIPs; they may be one."""

    similarity: ClipBackbone
    identity: ClipBackbone


def train(run: Run) -> None:
    """The whole method: initial prompts and network, then rounds of prompt refinement and tuning."""
    prepare_data(run)
    initialize_prompts(run)
    warm_up(run)
    train_enhancer(run, 0)
    for k in range(1, run.settings.refinement.rounds + 1):
        refine_prompts(run, k)
        train_enhancer(run, k)


def initialize_prompts(run: Run) -> PromptPair:
    """Learn the initial prompt pair: cross-entropy on backlit against well-lit images."""
    settings = run.settings

    def make(folder: Path) -> None:
        device, options = pick_device(settings), settings.prompts
        clip = load_backbones(settings, device).similarity
        backlit, well_lit = training_images(run)
        start = initial_pair(clip, settings)
        pair, end = _Pair(start.embedding).to(device), start.end
        loop = Loop(folder, pair, _adam(pair, options), options.iterations)
        for iteration in loop:
            images, labels = _labelled_batch(backlit, well_lit, options.batch_size, iteration, settings.seed)
            (features,) = _view_features(clip, [images.to(device)], options, settings.seed, "prompts0", iteration)
            text = clip.encode_prompts(pair.embedding, end)
            loss = losses.prompt_initialization_loss(
                features, text, labels.to(device), settings.clip.softmax_scale, options.label_smoothing
            )
            scores = losses.backlit_scores(features, text.detach(), settings.clip.softmax_scale)
            loop.step(loss, accuracy=((scores < 0.5).long().cpu() == labels).float().mean())
        _save_pair(pair, end, loop, folder, run)

    return load_prompts(run.build("prompts0", make) / "prompts.safetensors")


def warm_up(run: Run) -> Enhancer:
    """Train the network towards the identity, with the identity loss only.

    Guard of the released code: if the results are far from the inputs for too long, start anew with another seed.
    """
    settings, options = run.settings, run.settings.enhancement

    def make(folder: Path) -> None:
        device = pick_device(settings)
        clips, backlit = load_backbones(settings, device), training_images(run)[0]
        enhancer = new_enhancer(settings).to(device)
        loop = Loop(folder, enhancer, _adam(enhancer, options), options.warmup_iterations)
        for iteration in loop:
            images = _augmented_batch(backlit, options, settings.seed, "warmup", iteration).to(device)
            results = enhancer.enhance(images, padding="zeros")
            seen = generator(settings.seed, "view", "warmup", iteration)
            identity = _identity_term(clips, results, images, options, options.warmup_identity_stages, seen)
            loop.step(options.warmup_identity_weight * identity, identity=identity, psnr=_psnr(results, images))
            since_start = iteration - loop.memory.get("started", 0)
            if since_start > options.guard_after and loop.recent("psnr", options.average) < options.guard_psnr:
                attempts = loop.memory.get("attempts", 0) + 1
                if attempts > options.guard_attempts:
                    raise CliplitError(f"{folder}: {attempts} seeds in a row stayed below {options.guard_psnr} dB PSNR")
                loop.memory = {"started": iteration + 1, "attempts": attempts}
                enhancer.initialize(settings.seed + attempts)
                loop.optimizer = _adam(enhancer, options)
                loop.extend(options.guard_after)
        _save_network(enhancer, loop, folder, run)

    return load_enhancer(run.build("warmup", make) / "enhancer.safetensors")


def train_enhancer(run: Run, k: int) -> Enhancer:
    """Train the network with CLIP-Enhance and identity loss: `initial` for k = 0, tuning in round k after that.

    Keeps a copy of the best network: lowest mean loss of the last `average` iterations.
    """
    settings, options = run.settings, run.settings.enhancement
    name, before = f"enhancer{k}", f"enhancer{k - 1}" if k else "warmup"
    iterations = settings.refinement.tuning_iterations if k else options.iterations

    def make(folder: Path) -> None:
        device = pick_device(settings)
        clips, backlit = load_backbones(settings, device), training_images(run)[0]
        text = _text_features(run, k, clips.similarity, device)
        enhancer, optimizer = _previous_network(run, before, device)
        loop = Loop(folder, enhancer, optimizer, iterations, options.average, options.look_every)
        for iteration in loop:
            images = _augmented_batch(backlit, options, settings.seed, name, iteration).to(device)
            results = enhancer.enhance(images, padding="zeros")
            enhance = identity = 0.0
            for view in range(options.views):
                seen = generator(settings.seed, "view", view, name, iteration)
                terms = _guidance_terms(clips, text, results, images, settings, seen)
                enhance, identity = enhance + terms[0] / options.views, identity + terms[1] / options.views
            loss = options.clip_weight * enhance + options.identity_weight * identity
            loop.step(loss, clip_enhance=enhance, identity=identity)
            _extend(loop, loss, options.extend_above, options.extend_by, iterations, settings)
        _save_network(enhancer, loop, folder, run)

    return load_enhancer(run.build(name, make) / "enhancer.safetensors")


def refine_prompts(run: Run, k: int) -> PromptPair:
    """Refine the prompt pair in round k: rank backlit images, older and newer results, and well-lit images."""
    settings, options = run.settings, run.settings.refinement
    near = options.near_margin_first if k == 1 else options.near_margin
    name, sources = f"prompts{k}", [f"enhancer{j}" for j in range(max(0, k - 2), k)]
    labels = ["backlit", *sources, "well_lit"]

    def make(folder: Path) -> None:
        device, size = pick_device(settings), settings.prompts.size
        clip = load_backbones(settings, device).similarity
        pair, optimizer, end = _previous_pair(run, f"prompts{k - 1}", device)
        backlit, well_lit = training_images(run)
        networks = [load_enhancer(run.folder(stage) / "enhancer.safetensors").to(device) for stage in sources]
        sides = [_at_prompt_size(backlit, size, network, device) for network in (None, *networks)]
        sides.append(_at_prompt_size(well_lit, size, None, device))
        loop = Loop(folder, pair, optimizer, options.iterations)
        for iteration in loop:
            groups = _ranked_groups(sides, options.batch_size, settings.seed, name, iteration, device)
            features = _view_features(clip, groups, settings.prompts, settings.seed, name, iteration)
            text = clip.encode_prompts(pair.embedding, end)
            scores = [losses.backlit_scores(group, text, settings.clip.softmax_scale) for group in features]
            loss = options.weight * losses.margin_ranking_loss(scores, options.far_margin, near)
            loop.step(loss, **{f"score_{label}": score.mean() for label, score in zip(labels, scores)})
            _extend(loop, loss, options.extend_above, options.extend_by, options.iterations, settings)
        _save_pair(pair, end, loop, folder, run)

    return load_prompts(run.build(name, make) / "prompts.safetensors")


def pick_device(settings: Settings) -> torch.device:
    """The device of a run.

    Raises:
        CliplitError: no such device here.
    """
    return find_device(settings.device)


def load_backbones(settings: Settings, device: torch.device | str = "cpu") -> Backbones:
    """Load both CLIPs of a run; one, if they have the same name."""
    options = settings.clip

    def load(name: str) -> ClipBackbone:
        return load_backbone(name, random=options.random, seed=settings.seed, antialias=options.antialias).to(device)

    similarity = load(options.similarity)
    return Backbones(similarity, similarity if options.identity == options.similarity else load(options.identity))


def new_enhancer(settings: Settings) -> Enhancer:
    """An untrained network."""
    options = settings.enhancement
    return Enhancer(options.width, options.downscale, options.max_illumination).initialize(settings.seed)


def _guidance_terms(
    clips: Backbones, text: Tensor, results: Tensor, images: Tensor, settings: Settings, seen: torch.Generator
) -> tuple[Tensor, Tensor]:
    """CLIP-Enhance loss of a view of the results, and its identity loss against the inputs."""
    options, scale = settings.enhancement, settings.clip.softmax_scale
    results, images = random_view([results, images], options.view_scale, seen)
    features, predicted = clips.identity.encode_with_activations(results)
    if clips.similarity is not clips.identity:
        features = clips.similarity.encode_image(results)
    with torch.no_grad():
        target = clips.identity.encode_with_activations(images)[1]
    enhance = losses.clip_enhance_loss(features, text, scale)
    return enhance, losses.identity_loss(predicted, target, options.identity_stages)


def _identity_term(clips: Backbones, results: Tensor, images: Tensor, options, stages, seen: torch.Generator) -> Tensor:
    results, images = random_view([results, images], options.view_scale, seen)
    predicted = clips.identity.encode_with_activations(results)[1]
    with torch.no_grad():
        target = clips.identity.encode_with_activations(images)[1]
    return losses.identity_loss(predicted, target, stages)


def _augmented_batch(backlit: TrainingImages, options, seed: int, stage: str, iteration: int) -> Tensor:
    images = backlit[batch_indices(len(backlit), options.batch_size, iteration, seed, stage)]
    return augment([images], options.zoom, generator(seed, "augment", stage, iteration))[0]


def _labelled_batch(
    backlit: TrainingImages, well_lit: TrainingImages, batch_size: int, iteration: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Images of both sides in random order, and their labels: 0 backlit, 1 well-lit."""
    picked = batch_indices(len(backlit) + len(well_lit), batch_size, iteration, seed, "prompts0")
    dark = [index for index in picked if index < len(backlit)]
    light = [index - len(backlit) for index in picked if index >= len(backlit)]
    return torch.cat([backlit[dark], well_lit[light]]), torch.tensor([0] * len(dark) + [1] * len(light))


def _ranked_groups(
    sides: list[np.ndarray], batch_size: int, seed: int, stage: str, iteration: int, device: torch.device
) -> list[Tensor]:
    """A batch of backlit images, their results, and well-lit images of other scenes."""
    *inputs, well_lit = sides
    dark = batch_indices(len(inputs[0]), batch_size, iteration, seed, stage, "backlit")
    light = batch_indices(len(well_lit), batch_size, iteration, seed, stage, "well_lit")
    return [to_tensor(side[dark]).to(device) for side in inputs] + [to_tensor(well_lit[light]).to(device)]


@torch.no_grad()
def _view_features(
    clip: ClipBackbone, groups: list[Tensor], options, seed: int, stage: str, iteration: int
) -> list[Tensor]:
    """Image features of the groups, augmented alike; the n-th images of all groups belong together."""
    moved = augment(groups, options.zoom, generator(seed, "augment", stage, iteration))
    return list(clip.encode_image(torch.cat(moved)).split(len(moved[0])))


@torch.no_grad()
def _at_prompt_size(images: TrainingImages, size: int, network: Enhancer | None, device: torch.device) -> np.ndarray:
    """All images at the size of the prompt stages, enhanced if a network is given: (N, S, S, 3), 8 bits."""
    done = []
    for start in range(0, len(images), 16):
        batch = images[list(range(start, min(start + 16, len(images))))].to(device)
        batch = F.interpolate(batch, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
        done.append(to_uint8(network.enhance(batch, padding="zeros") if network else batch))
    return np.concatenate(done)


class _Pair(nn.Module):
    """A prompt pair as a module: only these parameters reach the optimiser."""

    def __init__(self, embedding: Tensor):
        super().__init__()
        self.embedding = nn.Parameter(embedding.clone())


def initial_pair(clip: ClipBackbone, settings: Settings) -> PromptPair:
    """The prompt pair before any learning: "X X ... X" twice, or the texts of the settings.

    Raises:
        CliplitError: texts of different numbers of tokens; the pair is read at one position.
    """
    words = [text or " ".join(["X"] * settings.prompts.length) for text in settings.prompts.initial]
    (backlit, end), (well_lit, other) = (clip.embed(text) for text in words)
    if end != other:
        raise CliplitError(
            f"prompts.initial: '{words[0]}' has {end - 1} tokens, '{words[1]}' {other - 1}; make them equal"
        )
    return PromptPair(torch.cat([backlit, well_lit]), end)


def _previous_pair(run: Run, stage: str, device: torch.device) -> tuple[_Pair, torch.optim.Optimizer, int]:
    folder = run.folder(stage)
    prompts = load_prompts(folder / "prompts.safetensors")
    pair = _Pair(prompts.embedding).to(device)
    return pair, _with_state(_adam(pair, run.settings.prompts), folder), prompts.end


def _previous_network(run: Run, stage: str, device: torch.device) -> tuple[Enhancer, torch.optim.Optimizer]:
    folder = run.folder(stage)
    enhancer = load_enhancer(folder / "enhancer.safetensors").to(device)
    return enhancer, _with_state(_adam(enhancer, run.settings.enhancement), folder)


def _text_features(run: Run, k: int, clip: ClipBackbone, device: torch.device) -> Tensor:
    prompts = load_prompts(run.folder(f"prompts{k}") / "prompts.safetensors")
    with torch.no_grad():
        return clip.encode_prompts(prompts.embedding.to(device), prompts.end)


def _adam(module: nn.Module, options) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), options.learning_rate, weight_decay=options.weight_decay)


def _with_state(optimizer: torch.optim.Optimizer, folder: Path) -> torch.optim.Optimizer:
    """The optimiser as the stage before left it: the released code has one for the whole training."""
    optimizer.load_state_dict(torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True))
    return optimizer


def _extend(loop: Loop, loss: Tensor, threshold: float, by: int, planned: int, settings: Settings) -> None:
    if loop.last and loss.item() > threshold and loop.iterations < planned + by * settings.refinement.max_extensions:
        loop.extend(by)


def _psnr(results: Tensor, images: Tensor) -> Tensor:
    """Mean PSNR of a batch, in dB."""
    return (-10 * (results.detach() - images).square().flatten(1).mean(1).clamp_min(1e-10).log10()).mean()


def _save_pair(pair: _Pair, end: int, loop: Loop, folder: Path, run: Run) -> None:
    loop.finish()
    torch.save(loop.optimizer.state_dict(), folder / "optimizer.pt")
    save_prompts(
        PromptPair(pair.embedding, end), folder / "prompts.safetensors", run.settings, folder.name, loop.iterations
    )


def _save_network(enhancer: Enhancer, loop: Loop, folder: Path, run: Run) -> None:
    enhancer.load_state_dict(loop.finish())
    torch.save(loop.optimizer.state_dict(), folder / "optimizer.pt")
    save_enhancer(enhancer, folder / "enhancer.safetensors", run.settings, folder.name, loop.iterations)
