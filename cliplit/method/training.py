"""The stages of CLIP-LIT. Each function is one stage of a run: it loads what it needs, and resumes.

initialize_prompts      prompts0     learn the initial prompt pair               paper, section 3.1
warm_up                 warmup       identity loss only                          released code
train_enhancer          enhancer0    CLIP-Enhance and identity loss              paper, section 3.1
refine_prompts          prompts<k>   margin ranking of inputs and results        paper, section 3.2
train_enhancer          enhancer<k>  tuning with the refined prompts             paper, section 3.2

Where another guidance than the prompt pair is chosen (cliplit/method/guidance/), it takes the prompts' place in all of
them.
"""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliplit.engine import processes
from cliplit.engine.compute import Engine, engine
from cliplit.engine.loop import Loop
from cliplit.engine.randomness import batch_indices, generator
from cliplit.engine.record import Recorder
from cliplit.engine.saved import load_tensors, save_tensors
from cliplit.errors import CliplitError, one_line
from cliplit.files.tensors import psnr, to_tensor, to_uint8
from cliplit.method import losses, schedule
from cliplit.method.augmentation import AugmentedBatches, ViewFeatures, random_view
from cliplit.method.checkpoints import load_enhancer, load_guidance, save_enhancer, save_guidance
from cliplit.method.clip import Backbones, ClipBackbone, load_backbones, load_similarity
from cliplit.method.enhancer import Architecture, Enhancer, divide
from cliplit.method.guidance.base import Guidance, Seen
from cliplit.method.guidance.registry import new_guidance
from cliplit.method.run import Run
from cliplit.method.run_images import TrainingImages, prepare_data, training_images
from cliplit.method.schedule import Step
from cliplit.settings import Enhancement, Settings

PANEL_IMAGES = 6  # training images that a run in progress is watched by


def train(run: Run) -> None:
    """The whole method: initial prompts and network, then rounds of prompt refinement and tuning."""
    prepare_data(run)
    for step in run.alternation:
        match step:
            case Step("prompts", 0):
                initialize_prompts(run)
            case Step("warmup"):
                warm_up(run)
            case Step("prompts", k):
                refine_prompts(run, k)
            case Step("enhancer", k):
                train_enhancer(run, k)


def initialize_prompts(run: Run) -> Guidance:
    """Learn the initial prompt pair: cross-entropy on backlit against well-lit images.

    A guidance that is not learned by gradient is fitted to the features of all training images.
    """
    settings = run.settings
    options = settings.prompts
    part = schedule.initial_prompts(settings)

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
        loop = Loop(folder, part, guidance, _adam(guidance), Recorder(folder, settings.watch, options.batch_size))
        for iteration in loop.until(using.interrupts):
            batch = batch_indices(len(labels), options.batch_size, iteration, settings.seed, part.name)
            truth = labels[batch[processes.share(len(batch))]].to(using.device)
            loss, scores = guidance.learning_loss(features(batch, iteration)[0], truth)
            loop.step(loss, accuracy=((scores < 0.5) == truth).float().mean())
        _save_guidance(guidance, loop, settings)

    _build(run, part.name, make)
    return guidance_of(run, 0)


def warm_up(run: Run) -> Enhancer:
    """Train the network towards the identity, with the identity loss only.

    Guard of the released code: if the results are far from the inputs for too long, start anew with another seed.
    """
    settings = run.settings
    options = settings.enhancement
    part = schedule.warm_up(settings)

    def make(folder: Path, using: Engine) -> None:
        clips = load_backbones(settings).placed(using)
        backlit, _ = training_images(run)
        enhancer = using.place(new_enhancer(settings))
        batches = AugmentedBatches(backlit, settings, part.name, using.device)
        loop = Loop(folder, part, enhancer, _network_adam(enhancer, options), _panels(run, enhancer, folder, using))
        for iteration in loop.until(using.interrupts):
            images = batches(iteration)
            results = enhancer.enhance(images, padding="zeros")
            view = generator(settings.seed, "view", part.name, iteration)
            seen = random_view([results, images], options.view_scale, view)
            predicted = clips.identity.encode_activations(seen[0])
            identity = _identity_loss(clips, predicted, seen[1], options.warmup_identity_stages)
            likeness = psnr(results.detach(), images).mean()
            loop.step(options.warmup_identity_weight * identity, identity=identity, psnr=likeness)
            if loop.starts_anew:
                enhancer.initialize(settings.seed + loop.then.starts, options.init_std)
                loop.optimizer = _network_adam(enhancer, options)
        _save_network(enhancer, None, loop, settings)

    _build(run, part.name, make)
    return network_of(run, part.name)


def train_enhancer(run: Run, k: int) -> Enhancer:
    """Train the network with CLIP-Enhance and identity loss: `initial` for k = 0, tuning in round k after that.

    Keeps a copy of the best network: lowest mean loss of the last `average` iterations.
    """
    settings = run.settings
    options = settings.enhancement
    part = schedule.network(settings, k)
    before = f"enhancer{k - 1}" if k else "warmup"

    def make(folder: Path, using: Engine) -> None:
        clips = load_backbones(settings).placed(using)
        backlit, well_lit = training_images(run)
        guidance = _guidance_before(run, k, clips.similarity).to(using.device).frozen()
        enhancer = using.place(network_of(run, before))
        optimizer = _optimizer_after(run, before, enhancer, guidance)
        learned = nn.ModuleDict({"enhancer": enhancer, "guidance": guidance})
        batches = AugmentedBatches(backlit, settings, part.name, using.device)
        others = AugmentedBatches(well_lit, settings, f"{part.name} well-lit", using.device)
        loop = Loop(folder, part, learned, optimizer, _panels(run, enhancer, folder, using))
        for iteration in loop.until(using.interrupts):
            images = batches(iteration)
            illumination = enhancer(images, padding="zeros")
            results = divide(images, illumination)  # plainly: that it clips tells the network to lift no further
            enhance = identity = results.new_zeros(())
            for n in range(options.views):
                view = generator(settings.seed, "view", n, part.name, iteration)
                seen = random_view([results, images], options.view_scale, view)
                terms = _guidance_terms(clips, guidance, seen, options.identity_stages)
                enhance = enhance + terms[0] / options.views
                identity = identity + terms[1] / options.views
            loss = options.clip_weight * guidance.factor * enhance + options.identity_weight * identity
            more = {}
            if options.smoothness_weight:
                more["smoothness"] = processes.count() * losses.smoothness_loss(illumination)
                loss = loss + options.smoothness_weight * more["smoothness"]
            companion = None
            if guidance.learned:  # it learns along, against other well-lit images in every iteration
                pair = (results.detach(), others(iteration))
                companion = guidance.companion_loss(*(_seen(clips.similarity, side) for side in pair))
            loop.step(loss, companion, clip_enhance=enhance, identity=identity, **more)
        _save_network(enhancer, guidance, loop, settings)

    _build(run, part.name, make)
    return network_of(run, part.name)


def refine_prompts(run: Run, k: int) -> Guidance:
    """Refine the prompt pair in round k: rank backlit images, older and newer results, and well-lit images.

    A guidance that is not refined stays as it is.
    """
    settings = run.settings
    options = settings.refinement
    part = schedule.refined_prompts(settings, k)
    sources = [f"enhancer{j}" for j in schedule.ranked_rounds(k)]
    far, near = schedule.margins(settings, k)
    labels = ["backlit", *sources, "well_lit"]

    def make(folder: Path, using: Engine) -> None:
        size = settings.prompts.size
        clip = using.place(load_similarity(settings))
        guidance = guidance_of(run, k - 1, clip).to(using.device)
        optimizer = _with_state(_adam(guidance), run.folder(f"prompts{k - 1}"))
        backlit, well_lit = training_images(run)
        networks = [network_of(run, stage).to(using.device) for stage in sources]
        inputs = [at_prompt_size(backlit, size, using.device, network) for network in (None, *networks)]
        partners = at_prompt_size(well_lit, size, using.device)
        features = ViewFeatures(clip, inputs, settings, part.name, partners=partners)
        loop = Loop(folder, part, guidance, optimizer, Recorder(folder, settings.watch, options.batch_size))
        for iteration in loop.until(using.interrupts):
            batch = batch_indices(len(backlit), options.batch_size, iteration, settings.seed, part.name, "backlit")
            groups = features(batch, iteration)
            scores = guidance.score(Seen(None, groups.flatten(0, 1))).split(groups.shape[1])
            loss = options.weight * losses.margin_ranking_loss(scores, far, near)
            loop.step(loss, **{f"score_{label}": score.mean() for label, score in zip(labels, scores, strict=True)})
        _save_guidance(guidance, loop, settings)

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


def network_of(run: Run, stage: str) -> Enhancer:
    """The network that a finished stage left: warmup, enhancer<k> or control."""
    return load_enhancer(run.folder(stage) / "enhancer.safetensors")


def new_enhancer(settings: Settings) -> Enhancer:
    """An untrained network."""
    options = settings.enhancement
    network = Enhancer(**{item.name: getattr(options, item.name) for item in fields(Architecture)})
    return network.initialize(settings.seed, options.init_std)


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


def _build(run: Run, stage: str, make: Callable[[Path, Engine], None]) -> None:
    """Make a stage, by all processes together."""

    def train_together(folder: Path) -> None:
        with engine(run.settings) as using:
            make(folder, using)

    run.build(stage, train_together, together=True)


def _panels(run: Run, enhancer: Enhancer, folder: Path, using: Engine) -> Recorder:
    """A recorder that shows the first training images as they come out."""
    backlit, _ = training_images(run)
    images = backlit.batch(range(min(PANEL_IMAGES, len(backlit))), using.device)

    @torch.no_grad()
    def panel() -> dict[str, Tensor]:
        illumination = enhancer(images, padding="zeros")
        return {"input": images, "illumination": illumination, "result": enhancer.divide(images, illumination)}

    return Recorder(folder, run.settings.watch, run.settings.enhancement.batch_size, panel)


def _guidance_terms(
    clips: Backbones, guidance: Guidance, seen: list[Tensor], stages: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    """Guidance loss of a view of the results (for a prompt pair CLIP-Enhance), and identity loss against the inputs."""
    results, images = seen
    predicted = clips.identity.encode_activations(results)
    if clips.similarity is clips.identity:
        view = Seen(results, lambda: clips.identity.pool(predicted[-1]))
    else:
        view = _seen(clips.similarity, results)
    return guidance.loss(view), _identity_loss(clips, predicted, images, stages)


def _seen(clip: ClipBackbone, images: Tensor) -> Seen:
    return Seen(images, lambda: clip.encode_image(images))


def _identity_loss(clips: Backbones, predicted: list[Tensor], images: Tensor, stages: tuple[float, ...]) -> Tensor:
    """Identity loss, summed over the batch, of which this process has its share; the mean over processes is the sum."""
    with torch.no_grad():
        target = clips.identity.encode_activations(images)
    return processes.count() * losses.identity_loss(predicted, target, stages)


@torch.no_grad()
def _encode_all(clip: ClipBackbone, pixels: np.ndarray, device: torch.device) -> Tensor:
    """Features (N, D) of images (N, S, S, 3) as they are."""
    batches = np.array_split(pixels, len(pixels) // 16 + 1)
    return torch.cat([clip.encode_image(to_tensor(batch, device)) for batch in batches])


def _guidance_before(run: Run, k: int, clip: ClipBackbone) -> Guidance:
    """The guidance that the network of round k is trained with, as far as earlier rounds have trained it along."""
    companion = run.path / f"enhancer{k - 1}" / "guidance.safetensors"
    return load_guidance(companion, run.settings, clip) if companion.is_file() else guidance_of(run, k, clip)


def _adam(guidance: Guidance) -> torch.optim.Optimizer:
    decay = guidance.settings.prompts.weight_decay
    return torch.optim.Adam(guidance.parameters(), guidance.learning_rate, weight_decay=decay)


def _network_adam(enhancer: Enhancer, options: Enhancement) -> torch.optim.Optimizer:
    return torch.optim.Adam(enhancer.parameters(), options.learning_rate, weight_decay=options.weight_decay)


def _optimizer_after(run: Run, stage: str, enhancer: Enhancer, guidance: Guidance) -> torch.optim.Optimizer:
    """The optimiser as a stage left it, for its network and for what the guidance learns along with it."""
    optimizer = _network_adam(enhancer, run.settings.enhancement)
    companion = {"params": guidance.learned, "lr": guidance.learning_rate}
    if stage != "warmup" and guidance.learned:
        optimizer.add_param_group(companion)
    _with_state(optimizer, run.folder(stage))
    if stage == "warmup" and guidance.learned:
        optimizer.add_param_group(companion)
    return optimizer


def _with_state(optimizer: torch.optim.Optimizer, folder: Path) -> torch.optim.Optimizer:
    """The optimiser as the stage before left it: the released code has one for the whole training."""
    file = folder / "optimizer.pt"
    state = load_tensors(file)
    try:
        optimizer.load_state_dict(state)
    except Exception as error:  # PyTorch's are of many kinds
        raise CliplitError(
            f"{file}: not of this training ({one_line(error)}); remove {folder} to make it again"
        ) from None
    return optimizer


def _save_guidance(guidance: Guidance, loop: Loop, settings: Settings) -> None:
    folder = loop.folder

    def save() -> None:
        save_guidance(guidance, folder / "prompts.safetensors", settings, folder.name, loop.at.done)

    _finish(loop, save)


def _save_network(enhancer: Enhancer, guidance: Guidance | None, loop: Loop, settings: Settings) -> None:
    folder = loop.folder

    def save() -> None:
        save_enhancer(enhancer, folder / "enhancer.safetensors", settings, folder.name, loop.at.done)
        if guidance and guidance.learned:
            save_guidance(guidance, folder / "guidance.safetensors", settings, folder.name, loop.at.done)

    _finish(loop, save)


def _finish(loop: Loop, save: Callable[[], None]) -> None:
    """Take the best weights, write them and the optimiser, and only then forget the progress."""
    loop.module.load_state_dict(loop.finish())
    if processes.is_main():
        save_tensors(loop.optimizer.state_dict(), loop.folder / "optimizer.pt")
        save()
        loop.forget()
