"""The stages of CLIP-LIT. Each function is one stage of a run: it loads what it needs, and resumes.

initialize_prompts      prompts0     learn the initial prompt pair               paper, section 3.1
warm_up                 warmup       identity loss only                          released code
train_enhancer          enhancer0    CLIP-Enhance and identity loss              paper, section 3.1
refine_prompts          prompts<k>   margin ranking of inputs and results        paper, section 3.2
train_enhancer          enhancer<k>  tuning with the refined prompts             paper, section 3.2

Where another guidance than the prompt pair is chosen (cliplit/guidance/), it takes the prompts' place in all of them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliplit import losses
from cliplit.backbone import ClipBackbone, load_backbone
from cliplit.checkpoints import load_enhancer, load_guidance, save_enhancer, save_guidance
from cliplit.checks import CliplitError
from cliplit.config import Settings
from cliplit.data import TrainingImages, prepare_data, training_images
from cliplit.devices import find_device
from cliplit.enhancer import Enhancer
from cliplit.guidance import new_guidance
from cliplit.guidance.base import Guidance, Seen
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


def initialize_prompts(run: Run) -> Guidance:
    """Learn the initial prompt pair: cross-entropy on backlit against well-lit images.

    A guidance that is not learned by gradient is fitted to the features of all training images.
    """
    settings, options = run.settings, run.settings.prompts

    def make(folder: Path) -> None:
        device = pick_device(settings)
        clip = load_similarity(settings, device)
        guidance = new_guidance(settings, clip).to(device)
        backlit, well_lit = training_images(run)
        if not guidance.refined:
            guidance.fit(*(_all_features(clip, side, options.size, device) for side in (backlit, well_lit)))
            save_guidance(guidance, folder / "prompts.safetensors", settings, folder.name, 0)
            return
        loop = Loop(folder, guidance, _adam(guidance), options.iterations)
        for iteration in loop:
            images, labels = _labelled_batch(backlit, well_lit, options.batch_size, iteration, settings.seed)
            (features,) = _view_features(clip, [images.to(device)], options, settings.seed, "prompts0", iteration)
            loss, scores = guidance.learning_loss(features, labels.to(device))
            loop.step(loss, accuracy=((scores < 0.5).long().cpu() == labels).float().mean())
        _save_guidance(guidance, loop, folder, run)

    run.build("prompts0", make)
    return guidance_of(run, 0)


def warm_up(run: Run) -> Enhancer:
    """Train the network towards the identity, with the identity loss only.

    Guard of the released code: if the results are far from the inputs for too long, start anew with another seed.
    """
    settings, options = run.settings, run.settings.enhancement

    def make(folder: Path) -> None:
        device = pick_device(settings)
        clips, backlit = load_backbones(settings, device), training_images(run)[0]
        enhancer = new_enhancer(settings).to(device)
        loop = Loop(folder, enhancer, _network_adam(enhancer, options), options.warmup_iterations)
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
                enhancer.initialize(settings.seed + attempts, options.init_std)
                loop.optimizer = _network_adam(enhancer, options)
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
        clips, (backlit, well_lit) = load_backbones(settings, device), training_images(run)
        guidance = _guidance_before(run, k, clips.similarity).to(device).frozen()
        enhancer, optimizer = _previous_network(run, before, guidance, device)
        learned = nn.ModuleDict({"enhancer": enhancer, "guidance": guidance})
        loop = Loop(folder, learned, optimizer, iterations, options.average, options.look_every)
        for iteration in loop:
            images = _augmented_batch(backlit, options, settings.seed, name, iteration).to(device)
            results = enhancer.enhance(images, padding="zeros")
            enhance = identity = 0.0
            for view in range(options.views):
                seen = generator(settings.seed, "view", view, name, iteration)
                terms = _guidance_terms(clips, guidance, results, images, options, seen)
                enhance, identity = enhance + terms[0] / options.views, identity + terms[1] / options.views
            loss = options.clip_weight * guidance.factor * enhance + options.identity_weight * identity
            companion = _companion_loss(clips, guidance, results, well_lit, settings, name, iteration)
            loop.step(loss, companion, clip_enhance=enhance, identity=identity)
            _extend(loop, loss, options.extend_above, options.extend_by, iterations, settings)
        _save_network(enhancer, loop, folder, run)
        if guidance.learned:
            save_guidance(guidance, folder / "guidance.safetensors", settings, name, loop.iterations)

    return load_enhancer(run.build(name, make) / "enhancer.safetensors")


def refine_prompts(run: Run, k: int) -> Guidance:
    """Refine the prompt pair in round k: rank backlit images, older and newer results, and well-lit images.

    A guidance that is not refined stays as it is.
    """
    settings, options = run.settings, run.settings.refinement
    near = options.near_margin_first if k == 1 else options.near_margin
    name, sources = f"prompts{k}", [f"enhancer{j}" for j in range(max(0, k - 2), k)]
    labels = ["backlit", *sources, "well_lit"]

    def make(folder: Path) -> None:
        device, size = pick_device(settings), settings.prompts.size
        clip = load_similarity(settings, device)
        guidance = guidance_of(run, k - 1, clip).to(device)
        optimizer = _with_state(_adam(guidance), run.folder(f"prompts{k - 1}"))
        backlit, well_lit = training_images(run)
        networks = [load_enhancer(run.folder(stage) / "enhancer.safetensors").to(device) for stage in sources]
        sides = [_at_prompt_size(backlit, size, network, device) for network in (None, *networks)]
        sides.append(_at_prompt_size(well_lit, size, None, device))
        loop = Loop(folder, guidance, optimizer, options.iterations)
        for iteration in loop:
            groups = _ranked_groups(sides, options.batch_size, settings.seed, name, iteration, device)
            features = _view_features(clip, groups, settings.prompts, settings.seed, name, iteration)
            scores = guidance.score(Seen(None, torch.cat(features))).split(options.batch_size)
            loss = options.weight * losses.margin_ranking_loss(scores, options.far_margin, near)
            loop.step(loss, **{f"score_{label}": score.mean() for label, score in zip(labels, scores)})
            _extend(loop, loss, options.extend_above, options.extend_by, options.iterations, settings)
        _save_guidance(guidance, loop, folder, run)

    if name in run.plan:
        run.build(name, make)
    return guidance_of(run, k)


def guidance_of(run: Run, k: int, clip: ClipBackbone | None = None) -> Guidance:
    """The guidance of round k as it was before the network was tuned: the initial one for k = 0.

    Args:
        clip: the run's CLIP for similarity, if it is loaded already.
    """
    stage = f"prompts{k}" if f"prompts{k}" in run.plan else "prompts0"
    clip = clip or load_similarity(run.settings)
    return load_guidance(run.folder(stage) / "prompts.safetensors", run.settings, clip)


def pick_device(settings: Settings) -> torch.device:
    """The device of a run.

    Raises:
        CliplitError: no such device here.
    """
    return find_device(settings.device)


def load_backbones(settings: Settings, device: torch.device | str = "cpu") -> Backbones:
    """Load both CLIPs of a run; one, if they have the same name."""
    options, similarity = settings.clip, load_similarity(settings, device)
    if options.identity == options.similarity:
        return Backbones(similarity, similarity)
    return Backbones(similarity, _load(options.identity, settings, device))


def load_similarity(settings: Settings, device: torch.device | str = "cpu") -> ClipBackbone:
    """Load the CLIP that compares images with prompts."""
    return _load(settings.clip.similarity, settings, device)


def _load(name: str, settings: Settings, device: torch.device | str) -> ClipBackbone:
    options = settings.clip
    return load_backbone(name, random=options.random, seed=settings.seed, antialias=options.antialias).to(device)


def new_enhancer(settings: Settings) -> Enhancer:
    """An untrained network."""
    options = settings.enhancement
    return Enhancer(options.width, options.downscale, options.max_illumination).initialize(
        settings.seed, options.init_std
    )


def _guidance_terms(
    clips: Backbones, guidance: Guidance, results: Tensor, images: Tensor, options, seen: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Guidance loss of a view of the results (for a prompt pair CLIP-Enhance), and identity loss against the inputs."""
    results, images = random_view([results, images], options.view_scale, seen)
    features, predicted = clips.identity.encode_with_activations(results)
    shared = clips.similarity is clips.identity
    view = Seen(results, features if shared else lambda: clips.similarity.encode_image(results))
    with torch.no_grad():
        target = clips.identity.encode_with_activations(images)[1]
    return guidance.loss(view), losses.identity_loss(predicted, target, options.identity_stages)


def _companion_loss(
    clips: Backbones,
    guidance: Guidance,
    results: Tensor,
    well_lit: TrainingImages,
    settings: Settings,
    stage: str,
    iteration: int,
) -> Tensor | None:
    """Loss of what the guidance learns along with the network, against other well-lit images in every iteration."""
    if not guidance.learned:
        return None
    images = _augmented_batch(well_lit, settings.enhancement, settings.seed, f"{stage} well-lit", iteration)
    sides = [side.to(results.device) for side in (results.detach(), images)]
    return guidance.companion_loss(
        *(Seen(side, lambda side=side: clips.similarity.encode_image(side)) for side in sides)
    )


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


@torch.no_grad()
def _all_features(clip: ClipBackbone, images: TrainingImages, size: int, device: torch.device) -> Tensor:
    """Features (N, D) of all images as they are, at the size of the prompt stages."""
    pixels = _at_prompt_size(images, size, None, device)
    return torch.cat(
        [clip.encode_image(to_tensor(batch).to(device)) for batch in np.array_split(pixels, len(pixels) // 16 + 1)]
    )


def _guidance_before(run: Run, k: int, clip: ClipBackbone) -> Guidance:
    """The guidance that the network of round k is trained with, as far as earlier rounds have trained it along."""
    companion = run.path / f"enhancer{k - 1}" / "guidance.safetensors"
    return load_guidance(companion, run.settings, clip) if companion.is_file() else guidance_of(run, k, clip)


def _previous_network(
    run: Run, stage: str, guidance: Guidance, device: torch.device
) -> tuple[Enhancer, torch.optim.Optimizer]:
    """The network of a stage with its optimiser, which also gets what the guidance learns along with the network."""
    folder = run.folder(stage)
    enhancer = load_enhancer(folder / "enhancer.safetensors").to(device)
    optimizer = _network_adam(enhancer, run.settings.enhancement)
    companion = {"params": guidance.learned, "lr": guidance.learning_rate}
    if stage != "warmup" and guidance.learned:
        optimizer.add_param_group(companion)
    _with_state(optimizer, folder)
    if stage == "warmup" and guidance.learned:
        optimizer.add_param_group(companion)
    return enhancer, optimizer


def _adam(guidance: Guidance) -> torch.optim.Adam:
    decay = guidance.settings.prompts.weight_decay
    return torch.optim.Adam(guidance.parameters(), guidance.learning_rate, weight_decay=decay)


def _network_adam(enhancer: Enhancer, options) -> torch.optim.Adam:
    return torch.optim.Adam(enhancer.parameters(), options.learning_rate, weight_decay=options.weight_decay)


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


def _save_guidance(guidance: Guidance, loop: Loop, folder: Path, run: Run) -> None:
    loop.finish()
    torch.save(loop.optimizer.state_dict(), folder / "optimizer.pt")
    save_guidance(guidance, folder / "prompts.safetensors", run.settings, folder.name, loop.iterations)


def _save_network(enhancer: Enhancer, loop: Loop, folder: Path, run: Run) -> None:
    loop.module.load_state_dict(loop.finish())
    torch.save(loop.optimizer.state_dict(), folder / "optimizer.pt")
    save_enhancer(enhancer, folder / "enhancer.safetensors", run.settings, folder.name, loop.iterations)
