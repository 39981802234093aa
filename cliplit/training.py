"""The stages of CLIP-LIT. Each function is one stage of a run: it loads what it needs, and resumes.

initialize_prompts      prompts0     learn the initial prompt pair               paper, section 3.1
warm_up                 warmup       identity loss only                          released code
train_enhancer          enhancer0    CLIP-Enhance and identity loss              paper, section 3.1
refine_prompts          prompts<k>   margin ranking of inputs and results        paper, section 3.2
train_enhancer          enhancer<k>  tuning with the refined prompts             paper, section 3.2

Where another guidance than the prompt pair is chosen (cliplit/guidance/), it takes the prompts' place in all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliplit import losses, processes, schedule
from cliplit.backbone import ClipBackbone, load_backbone
from cliplit.checkpoints import load_enhancer, load_guidance, save_enhancer, save_guidance
from cliplit.data import TrainingImages, prepare_data, training_images
from cliplit.engine import Engine, engine
from cliplit.enhancer import Enhancer, divide
from cliplit.files.tensors import to_tensor, to_uint8
from cliplit.guidance import new_guidance
from cliplit.guidance.base import Guidance, Seen
from cliplit.loops import Loop
from cliplit.runs import Run
from cliplit.sampling import augment, augmentation, batch_indices, generator, random_scale, random_view
from cliplit.schedule import Part
from cliplit.settings import Settings
from cliplit.views import ViewFeatures

PANEL_IMAGES = 6  # training images that a run in progress is watched by


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
    settings, options, part = run.settings, run.settings.prompts, schedule.initial_prompts(run.settings)

    def make(folder: Path, using: Engine) -> None:
        clip = using.place(load_similarity(settings))
        guidance = new_guidance(settings, clip).to(using.device)
        backlit, well_lit = (at_prompt_size(side, options.size, using.device) for side in training_images(run))
        if not guidance.refined:
            guidance.fit(*(_encode_all(clip, side, using.device) for side in (backlit, well_lit)))
            if processes.is_main():
                save_guidance(guidance, folder / "prompts.safetensors", settings, part.name, 0)
            return
        labels = torch.tensor([0] * len(backlit) + [1] * len(well_lit))
        features = ViewFeatures(clip, [np.concatenate([backlit, well_lit])], settings, part.name)
        loop = _loop(folder, part, guidance, _adam(guidance), run, options.batch_size)
        for iteration in loop:
            batch = batch_indices(len(labels), options.batch_size, iteration, settings.seed, part.name)
            truth = labels[batch[processes.share(len(batch))]].to(using.device)
            loss, scores = guidance.learning_loss(features(batch, iteration)[0], truth)
            loop.step(loss, accuracy=((scores < 0.5) == truth).float().mean())
        _save_guidance(guidance, loop, folder, run)

    _build(run, part.name, make)
    return guidance_of(run, 0)


def warm_up(run: Run) -> Enhancer:
    """Train the network towards the identity, with the identity loss only.

    Guard of the released code: if the results are far from the inputs for too long, start anew with another seed.
    """
    settings, options, part = run.settings, run.settings.enhancement, schedule.warm_up(run.settings)

    def make(folder: Path, using: Engine) -> None:
        clips, backlit = _place(load_backbones(settings), using), training_images(run)[0]
        enhancer = using.place(new_enhancer(settings))
        loop = _network_loop(folder, part, enhancer, enhancer, _network_adam(enhancer, options), run, using)
        for iteration in loop:
            images = _augmented_batch(backlit, options, settings.seed, part.name, iteration, using.device)
            results = enhancer.enhance(images, padding="zeros")
            seen = random_view([results, images], options.view_scale, _view(settings.seed, part.name, iteration))
            predicted = clips.identity.encode_activations(seen[0])
            identity = _identity_loss(clips, predicted, seen[1], options.warmup_identity_stages)
            loop.step(options.warmup_identity_weight * identity, identity=identity, psnr=_psnr(results, images))
            if loop.starts_anew:
                enhancer.initialize(settings.seed + loop.then.starts, options.init_std)
                loop.optimizer = _network_adam(enhancer, options)
        _save_network(enhancer, None, loop, folder, run)

    return load_enhancer(_build(run, part.name, make) / "enhancer.safetensors")


def train_enhancer(run: Run, k: int) -> Enhancer:
    """Train the network with CLIP-Enhance and identity loss: `initial` for k = 0, tuning in round k after that.

    Keeps a copy of the best network: lowest mean loss of the last `average` iterations.
    """
    settings, options, part = run.settings, run.settings.enhancement, schedule.network(run.settings, k)
    before = f"enhancer{k - 1}" if k else "warmup"

    def make(folder: Path, using: Engine) -> None:
        clips, (backlit, well_lit) = _place(load_backbones(settings), using), training_images(run)
        guidance = _guidance_before(run, k, clips.similarity).to(using.device).frozen()
        enhancer, optimizer = _previous_network(run, before, guidance, using)
        learned = nn.ModuleDict({"enhancer": enhancer, "guidance": guidance})
        loop = _network_loop(folder, part, enhancer, learned, optimizer, run, using)
        for iteration in loop:
            images = _augmented_batch(backlit, options, settings.seed, part.name, iteration, using.device)
            results = enhancer.enhance(images, padding="zeros")
            enhance = identity = 0.0
            for view in range(options.views):
                seen = _view(settings.seed, view, part.name, iteration)
                terms = _guidance_terms(clips, guidance, results, images, options, seen)
                enhance, identity = enhance + terms[0] / options.views, identity + terms[1] / options.views
            loss = options.clip_weight * guidance.factor * enhance + options.identity_weight * identity
            companion = _companion_loss(clips, guidance, results, well_lit, settings, part.name, iteration)
            loop.step(loss, companion, clip_enhance=enhance, identity=identity)
        _save_network(enhancer, guidance, loop, folder, run)

    return load_enhancer(_build(run, part.name, make) / "enhancer.safetensors")


def refine_prompts(run: Run, k: int) -> Guidance:
    """Refine the prompt pair in round k: rank backlit images, older and newer results, and well-lit images.

    A guidance that is not refined stays as it is.
    """
    settings, options, part = run.settings, run.settings.refinement, schedule.refined_prompts(run.settings, k)
    sources, (far, near) = [f"enhancer{j}" for j in schedule.ranked_rounds(k)], schedule.margins(settings, k)
    labels = ["backlit", *sources, "well_lit"]

    def make(folder: Path, using: Engine) -> None:
        size = settings.prompts.size
        clip = using.place(load_similarity(settings))
        guidance = guidance_of(run, k - 1, clip).to(using.device)
        optimizer = _with_state(_adam(guidance), run.folder(f"prompts{k - 1}"))
        backlit, well_lit = training_images(run)
        networks = [load_enhancer(run.folder(stage) / "enhancer.safetensors").to(using.device) for stage in sources]
        inputs = [at_prompt_size(backlit, size, using.device, network) for network in (None, *networks)]
        well_lit = at_prompt_size(well_lit, size, using.device)
        features = ViewFeatures(clip, inputs, settings, part.name, partners=well_lit)
        loop = _loop(folder, part, guidance, optimizer, run, options.batch_size)
        for iteration in loop:
            batch = batch_indices(len(backlit), options.batch_size, iteration, settings.seed, part.name, "backlit")
            groups = features(batch, iteration)
            scores = guidance.score(Seen(None, groups.flatten(0, 1))).split(groups.shape[1])
            loss = options.weight * losses.margin_ranking_loss(scores, far, near)
            loop.step(loss, **{f"score_{label}": score.mean() for label, score in zip(labels, scores)})
        _save_guidance(guidance, loop, folder, run)

    if part.name in run.plan:
        _build(run, part.name, make)
    return guidance_of(run, k)


def guidance_of(run: Run, k: int, clip: ClipBackbone | None = None) -> Guidance:
    """The guidance of round k as it was before the network was tuned: the initial one for k = 0.

    Args:
        clip: the run's CLIP for similarity, if it is loaded already.
    """
    stage = f"prompts{k}" if f"prompts{k}" in run.plan else "prompts0"
    clip = clip or load_similarity(run.settings)
    return load_guidance(run.folder(stage) / "prompts.safetensors", run.settings, clip)


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


def _build(run: Run, stage: str, make: Callable[[Path, Engine], None]) -> Path:
    """Folder of a stage, trained by all processes together."""

    def train_together(folder: Path) -> None:
        with engine(run.settings) as using:
            make(folder, using)

    return run.build(stage, train_together, together=True)


def _loop(
    folder: Path, part: Part, module: nn.Module, optimizer: torch.optim.Optimizer, run: Run, batch_size: int, panel=None
) -> Loop:
    return Loop(folder, part, module, optimizer, run.settings.watch, batch_size, panel)


def _network_loop(
    folder: Path,
    part: Part,
    enhancer: Enhancer,
    learned: nn.Module,
    optimizer: torch.optim.Optimizer,
    run: Run,
    using: Engine,
) -> Loop:
    """A loop that shows the first training images as they come out."""
    backlit = training_images(run)[0]
    images = backlit.batch(range(min(PANEL_IMAGES, len(backlit))), using.device)

    @torch.no_grad()
    def panel() -> dict[str, Tensor]:
        illumination = enhancer(images, padding="zeros")
        return {"input": images, "illumination": illumination, "result": divide(images, illumination)}

    return _loop(folder, part, learned, optimizer, run, run.settings.enhancement.batch_size, panel)


def _place(clips: Backbones, using: Engine) -> Backbones:
    similarity = using.place(clips.similarity)
    return Backbones(similarity, similarity if clips.identity is clips.similarity else using.place(clips.identity))


def _guidance_terms(
    clips: Backbones, guidance: Guidance, results: Tensor, images: Tensor, options, seen: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Guidance loss of a view of the results (for a prompt pair CLIP-Enhance), and identity loss against the inputs."""
    results, images = random_view([results, images], options.view_scale, seen)
    predicted = clips.identity.encode_activations(results)
    if clips.similarity is clips.identity:
        view = Seen(results, lambda: clips.identity.pool(predicted[-1]))
    else:
        view = Seen(results, lambda: clips.similarity.encode_image(results))
    return guidance.loss(view), _identity_loss(clips, predicted, images, options.identity_stages)


def _identity_loss(clips: Backbones, predicted: list[Tensor], images: Tensor, stages: tuple[float, ...]) -> Tensor:
    """Identity loss, summed over the batch, of which this process has its share; the mean over processes is the sum."""
    with torch.no_grad():
        target = clips.identity.encode_activations(images)
    return processes.count() * losses.identity_loss(predicted, target, stages)


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
    stage = f"{stage} well-lit"
    images = _augmented_batch(well_lit, settings.enhancement, settings.seed, stage, iteration, results.device)
    return guidance.companion_loss(
        *(Seen(side, lambda side=side: clips.similarity.encode_image(side)) for side in (results.detach(), images))
    )


def _augmented_batch(
    side: TrainingImages, options, seed: int, stage: str, iteration: int, device: torch.device
) -> Tensor:
    """This process's share of a batch."""
    batch = batch_indices(len(side), options.batch_size, iteration, seed, stage)
    matrices = augmentation(len(batch), options.zoom, generator(seed, "augment", stage, iteration))
    mine = processes.share(len(batch))
    images = augment(side.batch(batch[mine], device), matrices[mine])
    return random_scale(images, options.crop, options.sizes, generator(seed, "scale", stage, iteration))


def _view(seed: int, *keys: object) -> torch.Generator:
    return generator(seed, "view", *keys)


@torch.no_grad()
def at_prompt_size(
    images: TrainingImages, size: int, device: torch.device | str = "cpu", network: Enhancer | None = None
) -> np.ndarray:
    """All images at the size of the prompt stages, enhanced if a network is given: (N, S, S, 3), 8 bits."""
    done = []
    for start in range(0, len(images), 16):
        batch = images.batch(range(start, min(start + 16, len(images))), device)
        batch = F.interpolate(batch, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
        done.append(to_uint8(network.enhance(batch, padding="zeros") if network else batch))
    return np.concatenate(done)


@torch.no_grad()
def _encode_all(clip: ClipBackbone, pixels: np.ndarray, device: torch.device) -> Tensor:
    """Features (N, D) of images (N, S, S, 3) as they are."""
    return torch.cat(
        [clip.encode_image(to_tensor(batch, device)) for batch in np.array_split(pixels, len(pixels) // 16 + 1)]
    )


def _guidance_before(run: Run, k: int, clip: ClipBackbone) -> Guidance:
    """The guidance that the network of round k is trained with, as far as earlier rounds have trained it along."""
    companion = run.path / f"enhancer{k - 1}" / "guidance.safetensors"
    return load_guidance(companion, run.settings, clip) if companion.is_file() else guidance_of(run, k, clip)


def _previous_network(
    run: Run, stage: str, guidance: Guidance, using: Engine
) -> tuple[Enhancer, torch.optim.Optimizer]:
    """The network of a stage with its optimiser, which also gets what the guidance learns along with the network."""
    folder = run.folder(stage)
    enhancer = using.place(load_enhancer(folder / "enhancer.safetensors"))
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


def _psnr(results: Tensor, images: Tensor) -> Tensor:
    """Mean PSNR of a batch, in dB."""
    return (-10 * (results.detach() - images).square().flatten(1).mean(1).clamp_min(1e-10).log10()).mean()


def _save_guidance(guidance: Guidance, loop: Loop, folder: Path, run: Run) -> None:
    def save() -> None:
        save_guidance(guidance, folder / "prompts.safetensors", run.settings, folder.name, loop.at.done)

    _finish(loop, save)


def _save_network(enhancer: Enhancer, guidance: Guidance | None, loop: Loop, folder: Path, run: Run) -> None:
    def save() -> None:
        save_enhancer(enhancer, folder / "enhancer.safetensors", run.settings, folder.name, loop.at.done)
        if guidance and guidance.learned:
            save_guidance(guidance, folder / "guidance.safetensors", run.settings, folder.name, loop.at.done)

    _finish(loop, save)


def _finish(loop: Loop, save: Callable[[], None]) -> None:
    """Take the best weights, write them and the optimiser, and only then forget the progress."""
    loop.module.load_state_dict(loop.finish())
    if processes.is_main():
        torch.save(loop.optimizer.state_dict(), loop.folder / "optimizer.pt")
        save()
        loop.forget()
