"""Checkpoints: our safetensors files, which hold all settings, and the released files of CLIP-LIT and RAVE."""

import json
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

import cliplit
from cliplit.errors import CliplitError, shortened, told
from cliplit.files.atomic import write_bytes
from cliplit.files.tensors import load_tensors, save_tensors
from cliplit.method.clip import ClipBackbone
from cliplit.method.enhancer import Enhancer
from cliplit.method.guidance.base import Guidance
from cliplit.method.guidance.clip_lit import PromptGuidance
from cliplit.method.guidance.registry import new_guidance
from cliplit.settings import INFINITE, Settings, from_json, plain, to_json

PROGRAMS = (".onnx", ".pt2")  # by `cliplit export`; they are programs, and cannot be read as checkpoints
RELEASED_PREFIX = "module."  # added by DataParallel
PROMPT_KEY = "embedding_prompt"
NOTES = "cliplit"  # name of the metadata in our files


@dataclass(frozen=True)
class PromptPair:
    """A learned prompt pair: token embeddings (2, L, W), 0 = backlit and 1 = well-lit, read at position `end`."""

    embedding: Tensor
    end: int


def save_enhancer(enhancer: Enhancer, path: str | Path, settings: Settings, stage: str, iteration: int) -> None:
    """Write an enhancer with its architecture, settings, stage and iteration, atomically."""
    architecture = json.dumps({name: plain(value) for name, value in enhancer.architecture.items()})
    _save(enhancer.state_dict(), path, "enhancer", settings, stage, iteration, architecture=architecture)


def save_guidance(guidance: Guidance, path: str | Path, settings: Settings, stage: str, iteration: int) -> None:
    """Write the weights of a guidance, with its kind, settings, stage and iteration, atomically."""
    kind, notes = settings.guidance.kind, {}
    if isinstance(guidance, PromptGuidance):
        kind, notes = "prompts", {"end": str(guidance.end)}
    _save(guidance.state_dict(), path, kind, settings, stage, iteration, **notes)


def load_guidance(path: str | Path, settings: Settings, clip: ClipBackbone) -> Guidance:
    """Load a file of `save_guidance` for these settings and this CLIP, on the CLIP's device.

    Raises CliplitError if there is no such file, or if it belongs to another guidance or CLIP.
    """
    guidance = new_guidance(settings, clip)
    state, _ = _load(path)
    learned = dict(guidance.named_parameters())
    with told(f"{path}: not of the guidance '{settings.guidance.kind}'"):
        for name, value in state.items():
            if name not in learned:  # `fit` decides the shapes of buffers
                guidance.register_buffer(name, value)
        guidance.load_state_dict(state)
    return guidance.to(clip.mean.device)


def load_enhancer(path: str | Path) -> Enhancer:
    """Load an enhancer: a file of cliplit, of the authors or of RAVE (with or without `module.`, from any device).

    Raises CliplitError if the file is missing or not a checkpoint, or if its weights do not fit, and says what differs.
    """
    state, metadata = _load(path)
    with told(f"{path}: notes of an architecture that is not known"):
        stored: dict[str, Any] = json.loads(metadata.get("architecture", "{}"))
        enhancer = Enhancer(**{key: INFINITE if value == "inf" else value for key, value in stored.items()})
    with told(f"{path}: not an enhancer of CLIP-LIT"):
        enhancer.load_state_dict(state)
    return enhancer.eval()


def load_prompts(path: str | Path) -> PromptPair:
    """Load a prompt pair: ours or the authors' (key `embedding_prompt`). Prefixes and errors as in `load_enhancer`."""
    state, metadata = _load(path)
    embedding = state.get(PROMPT_KEY)
    if embedding is None:
        raise CliplitError(f"{path}: not a prompt pair: no '{PROMPT_KEY}' among {shortened(state) or 'nothing'}")
    if embedding.ndim != 3 or len(embedding) != 2:
        raise CliplitError(f"{path}: a prompt pair has the shape (2, 77, width), this one {tuple(embedding.shape)}")
    end = metadata.get("end", "17")
    if not end.isdecimal() or not int(end) < embedding.shape[1]:
        raise CliplitError(f"{path}: its prompts cannot be read at position '{end}' of {embedding.shape[1]}")
    return PromptPair(embedding.float(), int(end))


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata of a checkpoint of cliplit: kind, settings, stage, iteration, version.

    Raises CliplitError as `load_enhancer` does, and for settings of another version.
    """
    metadata = _load(path)[1]
    with told(f"{path}: notes that cannot be read"):
        notes: dict[str, Any] = {
            key: json.loads(value) if value.startswith(("{", "[")) else value for key, value in metadata.items()
        }
        if "model_cfg" not in notes:  # the settings of a CLIP are different
            from_json(notes.get("settings", {}))  # raises if this version does not know them
        return notes


def export_released(source: str | Path, target: str | Path, prefix: str = RELEASED_PREFIX) -> None:
    """Write an enhancer or a prompt pair in the released format (a pickled state dict), atomically.

    Raises CliplitError if the released code does not have this architecture.
    """
    state, _ = _load(source)
    if PROMPT_KEY not in state and load_enhancer(source).architecture != Enhancer().architecture:
        raise CliplitError(f"{source}: the released code has no such network; .onnx and .pt2 can hold it")
    save_tensors(OrderedDict((prefix + key, value) for key, value in state.items()), target)


def _save(
    tensors: dict[str, Tensor], path: str | Path, kind: str, settings: Settings, stage: str, iteration: int, **more: str
) -> None:
    """Write tensors with the metadata of our checkpoints."""
    stored = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    notes = {
        "kind": kind,
        "settings": json.dumps(to_json(settings), allow_nan=False),
        "stage": stage,
        "iteration": str(iteration),
        "version": cliplit.__version__,
    }
    # Only one entry, because safetensors writes several in random order, and the same run must give the same bytes.
    metadata = {NOTES: json.dumps(notes | more, sort_keys=True)}
    write_bytes(save(stored, metadata), path)


def _load(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    path = Path(path)
    if path.is_dir():
        inside = ", ".join(sorted(file.name for file in path.glob("*.safetensors")))
        raise CliplitError(f"{path}: a folder, not a checkpoint{f'; give the file in it: {inside}' if inside else ''}")
    if not path.is_file():
        raise CliplitError(f"{path}: no such checkpoint")
    if path.suffix in PROGRAMS:
        raise CliplitError(f"{path}: a program for others, not a checkpoint; give the file that it was exported from")
    if path.suffix == ".safetensors":
        with told(f"{path}: not a safetensors file, or damaged"):
            with safe_open(path, "pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no dictionary)
                metadata = file.metadata() or {}
            notes = json.loads(metadata[NOTES]) if NOTES in metadata else metadata
            if not all(isinstance(value, str) for value in notes.values()):
                raise ValueError("its notes are not texts")
            return state, notes
    state = load_tensors(path)
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CliplitError(f"{path}: not a state dict of tensors")
    return {key.removeprefix(RELEASED_PREFIX): value for key, value in state.items()}, {}
