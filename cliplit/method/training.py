"""The stages of CLIP-LIT. Each function trains one stage of a run, or resumes it, and returns nothing.

initialize_prompts      prompts0     learn the initial prompt pair               paper, section 3.1
warm_up                 warmup       identity loss only                          released code
train_enhancer          enhancer0    CLIP-Enhance and identity loss              paper, section 3.1
refine_prompts          prompts<k>   margin ranking of inputs and results        paper, section 3.2
train_enhancer          enhancer<k>  tuning with the refined prompts             paper, section 3.2

Another guidance (cliplit/method/guidance/) can replace the prompt pair in all stages.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from cliplit.engine import processes
from cliplit.engine.compute import Machine, engine, find_device, limits_told
from cliplit.engine.loop import Loop
from cliplit.engine.randomness import batch_indices, generator
from cliplit.engine.record import Recorder
from cliplit.errors import told
from cliplit.files.tensors import load_tensors, psnr, save_tensors, to_tensor, to_uint8
from cliplit.method import losses, schedule
from cliplit.method.augmentation import ViewFeatures, augmented_batch, random_view
from cliplit.method.checkpoints import load_enhancer, load_guidance, save_enhancer, save_guidance
from cliplit.method.clip import ClipBackbone, load_clip
from cliplit.method.enhancer import ARCHITECTURE, Enhancer, divide
from cliplit.method.guidance.base import Guidance, Seen
from cliplit.method.guidance.registry import is_refined, new_guidance
from cliplit.method.run import Run
from cliplit.method.run_images import TrainingImages, prepare_data, training_images
from cliplit.settings import Settings

PANEL_IMAGES = 6  # training images in the image panels that are recorded during training
LESS_MEMORY = "set a smaller enhancement.batch_size or prompts.batch_size"


def train(run: Run) -> None:
    """Train the whole method: initial prompts and network, then rounds of prompt refinement and tuning."""
    prepare_data(run)
    for step in schedule.alternation(run.settings.refinement.rounds, is_refined(run.settings.guidance.kind)):
        match step.learns, step.round:
            case "prompts", 0:
                initialize_prompts(run)
            case "warmup", _:
                warm_up(run)
            case "prompts", k:
                refine_prompts(run, k)
            case "enhancer", k:
                train_enhancer(run, k)


def initialize_prompts(run: Run) -> None:
    """Learn the initial prompt pair with the cross-entropy of backlit and well-lit images.

    A guidance that is not learned by gradient descent is fitted to the features of all training images.
    """
    settings = run.settings
    options = settings.prompts
    part = schedule.initial_prompts(settings)

    def make(folder: Path, using: Machine) -> None:
        clip = using.place(load_clip(settings.clip.similarity, settings))
        guidance = new_guidance(settings, clip).to(using.device)
        backlit, well_lit = (at_prompt_size(side, options.size, using.device) for side in training_images(run))
        if not guidance.refined:
            with torch.no_grad():
                sides = (np.array_split(side, len(side) // 16 + 1) for side in (backlit, well_lit))
                encoded = [[clip.encode_image(to_tensor(batch, using.device)) for batch in side] for side in sides]
            guidance.fit(*map(torch.cat, encoded))
            if processes.is_main():
                save_guidance(guidance, folder / "prompts.safetensors", settings, part.name, 0)
            return
        labels = torch.tensor([0] * len(backlit) + [1] * len(well_lit))
        features = ViewFeatures(clip, [np.concatenate([backlit, well_lit])], settings, part.name)
        optimizer = Adam(guidance.parameters(), guidance.learning_rate, weight_decay=options.weight_decay)
        loop = Loop(folder, part, guidance, optimizer, Recorder(run.path / "watch" / part.name, settings.watch))
        for iteration in loop.until(using.interrupts):
            batch = batch_indices(len(labels), options.batch_size, iteration, settings.seed, part.name)
            truth = labels[batch[processes.share(len(batch))]].to(using.device)
            loss, scores = guidance.learning_loss(features(batch, iteration)[0], truth)
            loop.step(loss, accuracy=((scores < 0.5) == truth).float().mean())
        _finish(loop, settings, guidance=guidance)

    _build(run, part.name, make)


def warm_up(run: Run) -> None:
    """Train the network towards the identity, with the identity loss only.

    As in the released code, a guard restarts with another seed if the results stay too far from the inputs.
    """
    settings = run.settings
    options = settings.enhancement
    part = schedule.warm_up(settings)

    def make(folder: Path, using: Machine) -> None:
        clip = using.place(load_clip(settings.clip.identity, settings))
        backlit, _ = training_images(run)
        architecture = {name: getattr(options, name) for name in ARCHITECTURE}
        enhancer = using.place(Enhancer(**architecture).initialize(settings.seed, options.init_std))
        adam = partial(Adam, lr=options.learning_rate, weight_decay=options.weight_decay)
        loop = Loop(folder, part, enhancer, adam(enhancer.parameters()), _panels(run, part.name, backlit, enhancer))
        for iteration in loop.until(using.interrupts):
            images = augmented_batch(backlit, settings, part.name, iteration, using.device)
            results = enhancer.enhance(images, padding="zeros")
            view = generator(settings.seed, "view", part.name, iteration)
            seen = random_view([results, images], options.view_scale, view)
            predicted = clip.encode_activations(seen[0])
            identity = _identity_loss(clip, predicted, seen[1], options.warmup_identity_stages)
            likeness = psnr(results.detach(), images).mean()
            loop.step(options.warmup_identity_weight * identity, identity=identity, psnr=likeness)
            if loop.then.starts > loop.at.starts:  # the guard wants new weights
                enhancer.initialize(settings.seed + loop.then.starts, options.init_std)
                loop.optimizer = adam(enhancer.parameters())
        _finish(loop, settings, enhancer)

    _build(run, part.name, make)


def train_enhancer(run: Run, k: int) -> None:
    """Train the network with CLIP-Enhance and identity loss: initial training for k = 0, else the tuning of round k.

    The best network is kept: the one with the lowest mean loss over the last `average` iterations.
    """
    settings = run.settings
    options = settings.enhancement
    part = schedule.network(settings, k)
    before = f"enhancer{k - 1}" if k else "warmup"

    def make(folder: Path, using: Machine) -> None:
        backlit, well_lit = training_images(run)
        # A guidance that is trained together with the network continues from the previous stage.
        along = run.path / before / "guidance.safetensors"
        similarity = load_clip(settings.clip.similarity, settings)
        guidance = load_guidance(along, settings, similarity) if along.is_file() else guidance_of(run, k)
        guidance = guidance.frozen()
        clip = load_clip(settings.clip.identity, settings)
        for each in {clip, guidance.clip}:
            using.place(each)
        enhancer = using.place(network_of(run, before))
        optimizer = Adam(enhancer.parameters(), options.learning_rate, weight_decay=options.weight_decay)
        if not k:  # the warm-up has no guidance
            _with_state(optimizer, run.folder(before))
        if guidance.learned:
            optimizer.add_param_group({"params": guidance.learned, "lr": guidance.learning_rate})
        if k:
            _with_state(optimizer, run.folder(before))
        learned = nn.ModuleDict({"enhancer": enhancer, "guidance": guidance})
        loop = Loop(folder, part, learned, optimizer, _panels(run, part.name, backlit, enhancer))
        for iteration in loop.until(using.interrupts):
            images = augmented_batch(backlit, settings, part.name, iteration, using.device)
            illumination = enhancer(images, padding="zeros")
            results = divide(images, illumination)  # not keep_highlights: clipping limits the brightening
            enhance = identity = results.new_zeros(())
            for n in range(options.views):
                view = generator(settings.seed, "view", n, part.name, iteration)
                seen = random_view([results, images], options.view_scale, view)
                predicted = clip.encode_activations(seen[0])
                encode = partial(guidance.clip.encode_image, seen[0])
                if guidance.clip is clip:  # then the last activation also gives the features
                    encode = partial(clip.pool, predicted[-1])
                enhance = enhance + guidance.loss(Seen(seen[0], encode)) / options.views
                identity = identity + _identity_loss(clip, predicted, seen[1], options.identity_stages) / options.views
            loss = options.clip_weight * guidance.factor * enhance + options.identity_weight * identity
            more = {}
            if options.smoothness_weight:
                more["smoothness"] = processes.count() * losses.smoothness_loss(illumination)
                loss = loss + options.smoothness_weight * more["smoothness"]
            companion = None
            if guidance.learned:  # it compares results with new well-lit images in every iteration
                others = augmented_batch(well_lit, settings, f"{part.name} well-lit", iteration, using.device)
                pair = [Seen(side, partial(guidance.clip.encode_image, side)) for side in (results.detach(), others)]
                companion = guidance.companion_loss(*pair)
            loop.step(loss, companion, clip_enhance=enhance, identity=identity, **more)
        _finish(loop, settings, enhancer, guidance)

    _build(run, part.name, make)


def refine_prompts(run: Run, k: int) -> None:
    """Refine the prompt pair in round k: rank backlit images, older and newer results, and well-lit images.

    Does nothing for a guidance that is not refined.
    """
    settings = run.settings
    options = settings.refinement
    part = schedule.refined_prompts(settings, k)
    sources = [f"enhancer{j}" for j in schedule.ranked_rounds(k)]
    far, near = schedule.margins(settings, k)
    labels = ["backlit", *sources, "well_lit"]

    def make(folder: Path, using: Machine) -> None:
        size = settings.prompts.size
        clip = using.place(load_clip(settings.clip.similarity, settings))
        guidance = guidance_of(run, k - 1)
        decay = settings.prompts.weight_decay
        optimizer = Adam(guidance.parameters(), guidance.learning_rate, weight_decay=decay)
        _with_state(optimizer, run.folder(f"prompts{k - 1}"))
        backlit, well_lit = training_images(run)
        networks = [network_of(run, stage) for stage in sources]
        inputs = [at_prompt_size(backlit, size, using.device, network) for network in (None, *networks)]
        partners = at_prompt_size(well_lit, size, using.device)
        features = ViewFeatures(clip, inputs, settings, part.name, partners=partners)
        loop = Loop(folder, part, guidance, optimizer, Recorder(run.path / "watch" / part.name, settings.watch))
        for iteration in loop.until(using.interrupts):
            batch = batch_indices(len(backlit), options.batch_size, iteration, settings.seed, part.name, "backlit")
            groups = features(batch, iteration)
            scores = guidance.score(Seen(None, groups.flatten(0, 1))).split(groups.shape[1])
            loss = options.weight * losses.margin_ranking_loss(scores, far, near)
            loop.step(loss, **{f"score_{label}": score.mean() for label, score in zip(labels, scores, strict=True)})
        _finish(loop, settings, guidance=guidance)

    if part.name in run.plan:
        _build(run, part.name, make)


def guidance_of(run: Run, k: int) -> Guidance:
    """The guidance with which the network of round k is trained, on the run's device; k = 0 is the initial one."""
    stage = f"prompts{k}" if f"prompts{k}" in run.plan else "prompts0"
    clip = load_clip(run.settings.clip.similarity, run.settings)
    return load_guidance(run.folder(stage) / "prompts.safetensors", run.settings, clip)


def network_of(run: Run, stage: str) -> Enhancer:
    """The network of a finished stage (warmup, enhancer<k> or a control), on the run's device."""
    return load_enhancer(run.folder(stage) / "enhancer.safetensors").to(find_device(run.settings.device))


@torch.no_grad()
def at_prompt_size(
    images: TrainingImages, size: int, device: torch.device | str = "cpu", network: Enhancer | None = None
) -> np.ndarray:
    """All images at the size of the prompt stages, enhanced by the network if there is one: (N, S, S, 3), 8 bits."""
    done = []
    for start in range(0, len(images), 16):
        batch = images.batch(range(start, min(start + 16, len(images))), device)
        batch = F.interpolate(batch, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
        done.append(to_uint8(network.enhance(batch, padding="zeros") if network else batch))
    return np.concatenate(done)


def _build(run: Run, stage: str, make: Callable[[Path, Machine], None]) -> None:
    """Train a stage with all processes together."""

    def train_together(folder: Path) -> None:
        with limits_told(LESS_MEMORY), engine(run.settings) as using:
            make(folder, using)

    run.build(stage, train_together, together=True)


def _panels(run: Run, stage: str, backlit: TrainingImages, enhancer: Enhancer) -> Recorder:
    """A recorder of image panels: inputs, maps and results of the first training images."""
    images = backlit.batch(range(min(PANEL_IMAGES, len(backlit))), next(enhancer.parameters()).device)

    @torch.no_grad()
    def panel() -> dict[str, Tensor]:
        illumination = enhancer(images, padding="zeros")
        return {"input": images, "illumination": illumination, "result": enhancer.divide(images, illumination)}

    return Recorder(run.path / "watch" / stage, run.settings.watch, panel)


def _identity_loss(clip: ClipBackbone, predicted: list[Tensor], images: Tensor, stages: tuple[float, ...]) -> Tensor:
    """Identity loss, summed over the batch. A process has a share of the batch; the mean over processes is the sum."""
    with torch.no_grad():
        target = clip.encode_activations(images)
    return processes.count() * losses.identity_loss(predicted, target, stages)


def _with_state(optimizer: Optimizer, folder: Path) -> None:
    """Restore the optimiser of the stage before: the released code uses one optimiser for the whole training."""
    file = folder / "optimizer.pt"
    state = load_tensors(file)
    with told(f"{file}: not of this training", f"remove {folder} to make it again"):
        optimizer.load_state_dict(state)


def _finish(loop: Loop, settings: Settings, enhancer: Enhancer | None = None, guidance: Guidance | None = None) -> None:
    """Write the best weights and the optimiser; only then remove the saved progress."""
    loop.module.load_state_dict(loop.finish())
    if not processes.is_main():
        return
    folder = loop.folder
    save_tensors(loop.optimizer.state_dict(), folder / "optimizer.pt")
    if enhancer:
        save_enhancer(enhancer, folder / "enhancer.safetensors", settings, folder.name, loop.at.done)
    if guidance and (guidance.learned or not enhancer):
        name = "guidance" if enhancer else "prompts"
        save_guidance(guidance, folder / f"{name}.safetensors", settings, folder.name, loop.at.done)
    loop.progress.unlink(missing_ok=True)
