"""Frozen CLIP backbones, loaded through open_clip and named by a string.

tiny, tiny2                      the embedded stand-ins, which need no network (docs/tiny.md)
MODEL/TAG                        any open_clip model and tag, e.g. ViT-B-32-quickgelu/openai
MODEL/FILE                       an open_clip model with weights from a local file
FILE.safetensors                 a file written by data_scripts/train_tiny_clip.py
FOLDER                           a folder with open_clip_config.json and weights, as on the hub
"""

import json
import logging
import os
import pickle
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

import cliplit
from cliplit.engine.compute import find_device
from cliplit.errors import CliplitError, check_images, one_line, told
from cliplit.files.atomic import read_json
from cliplit.method.clip_weights import EMBEDDED, digest_of_weights, find_weights, model_config
from cliplit.settings import Settings

KNOWN = Path(cliplit.__file__).parent / "models" / "known_clips.json"  # by data_scripts/known_clips.py
KNOWN_PROMPTS = ("a backlit photo", "a well lit photo")
KNOWN_DIGITS = 4
KNOWN_TOLERANCE = 1e-3  # for the rounding of other processors and devices
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


class ClipBackbone(nn.Module):
    """A frozen CLIP, used as CLIP-LIT does. Images are (N, 3, H, W) in [0, 1], of any size.

    Args:
        size, mean, std: images are resized to size x size pixels (bilinear), and normalised.
    """

    clip: Any  # open_clip's classes have no common type
    text: Any
    mean: Tensor
    std: Tensor

    bf16 = False  # encode images in bfloat16 where it is safe; features keep the type of the images

    def __init__(
        self,
        clip: nn.Module,
        name: str,
        size: int,
        mean: Sequence[float] = OPENAI_MEAN,
        std: Sequence[float] = OPENAI_STD,
    ):
        super().__init__()
        self.clip = clip.eval().requires_grad_(False)
        self.text = getattr(clip, "text", clip)
        self.name, self.size = name, size
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    @property
    def embed_dim(self) -> int:
        """D, the length of image and text features."""
        projection = self.text.text_projection
        return projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1]

    def preprocess(self, images: Tensor) -> Tensor:
        """Images as input of this CLIP: (N, 3, S, S), resized without antialiasing as in the paper, and normalised."""
        check_images(images)
        size = (self.size, self.size)
        resized = F.interpolate(images, size, mode="bilinear", align_corners=False)
        return (resized - self.mean) / self.std

    def encode_image(self, images: Tensor) -> Tensor:
        """Image features (N, D), not normalised."""
        seen = self.preprocess(images)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            return self.clip.visual(seen).to(seen)

    def pool(self, activation: Tensor) -> Tensor:
        """Image features (N, D) from the activation of the ResNet's last stage."""
        with torch.autocast(activation.device.type, torch.bfloat16, enabled=self.bf16):
            return self.clip.visual.attnpool(activation).to(activation)

    def encode_activations(self, images: Tensor) -> list[Tensor]:
        """Activations of the ResNet's stem and stages 1-4. Raises CliplitError if this CLIP has no ResNet."""
        visual = self.clip.visual
        if not hasattr(visual, "attnpool"):
            raise CliplitError(f"CLIP '{self.name}' has no ResNet tower, which the identity loss needs; use e.g. RN101")
        seen = self.preprocess(images)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            activations = [visual.stem(seen)]
            for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
                activations.append(stage(activations[-1]))
        return [activation.to(seen) for activation in activations]

    def tokenize(self, text: str) -> tuple[Tensor, int]:
        """Token ids (1, context length) of a text, and the position of its end token. CliplitError if too long."""
        import open_clip

        length = self.text.positional_embedding.shape[0]
        ids = open_clip.tokenize([text], context_length=length + 1)
        if ids[0, length]:
            raise CliplitError(
                f"'{text[:40]} ...' is longer than the {length} tokens that CLIP '{self.name}' reads; shorten it"
            )
        return ids[:, :length], int(ids.argmax())

    def embed(self, text: str) -> tuple[Tensor, int]:
        """Token embeddings (1, context length, W) of a text and the position of its end token."""
        ids, end = self.tokenize(text)
        return self.text.token_embedding(ids.to(self.mean.device)), end

    def encode_prompts(self, embeddings: Tensor, end: int) -> Tensor:
        """Text features (K, D), not normalised, of token embeddings (K, L, W): the output at position `end`.

        Attention is causal, so only the positions up to `end` are computed. This is exact, and 4 times cheaper.
        """
        text = self.text
        length = end + 1
        x = embeddings[:, :length] + text.positional_embedding[:length]
        x = text.ln_final(text.transformer(x, attn_mask=text.attn_mask[:length, :length]))[:, end]
        projection = text.text_projection
        return projection(x) if isinstance(projection, nn.Linear) else x @ projection

    def encode_text(self, text: str) -> Tensor:
        """Text features (1, D), not normalised, of a text."""
        return self.encode_prompts(*self.embed(text))


def load_backbone(name: str, *, random: bool = False, seed: int = 0, known: bool = True) -> ClipBackbone:
    """Load a CLIP by its name (see the top of this file), with its own or with random weights.

    Args:
        random: use random weights from `seed` instead of the trained ones, as a control; nothing is downloaded.
        known: compare it with the stored numbers of this name, if there are any.
    Raises:
        CliplitError: unknown name, weights not found, a file that does not fit, or a model that is not the known one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        is_file = EMBEDDED.get(name, Path(name)).is_file()
        clip = (_load_file if is_file else _load_with_open_clip)(name, random)
    expected = (read_json(KNOWN) or {}).get(name) if known and not random else None
    if expected and not np.allclose(found := known_by(clip), expected, 0, KNOWN_TOLERANCE):
        raise CliplitError(
            f"CLIP '{name}': not the model of that name: cosines of two prompts and an image are {found}, not "
            f"{expected}; look at its weights and at the version of open_clip"
        )
    return clip


@torch.no_grad()
def known_by(clip: ClipBackbone) -> list[float]:
    """Cosine similarities that identify a model: of two prompts with each other, and of a grey ramp with both."""
    side = clip.size
    ramp = torch.linspace(0, 1, 3 * side * side, device=clip.mean.device).view(1, 3, side, side)
    features = torch.cat([*map(clip.encode_text, KNOWN_PROMPTS), clip.encode_image(ramp)])
    cosines = F.cosine_similarity(features, features.roll(-1, 0))
    return [round(cosine, KNOWN_DIGITS) for cosine in cosines.tolist()]


def load_clip(name: str, settings: Settings) -> ClipBackbone:
    """A CLIP of a run by name, on the run's device, in float32. Later calls in this process return the same object."""
    options = settings.clip
    seed = settings.seed if options.random else 0
    clip = _loaded(name, options.random, seed, digest_of_weights(name))
    return clip.to(find_device(settings.device)).to(memory_format=torch.channels_last)


@lru_cache(maxsize=2)  # the two CLIPs of a run
def _loaded(name: str, random: bool, seed: int, digest: str | None) -> ClipBackbone:
    return load_backbone(name, random=random, seed=seed)


def _load_file(name: str, random: bool) -> ClipBackbone:
    """A file written by data_scripts/train_tiny_clip.py."""
    from open_clip.model import CLIP

    path = EMBEDDED.get(name, Path(name))
    config = model_config(name)
    with told(f"{path}: a CLIP that is damaged or of another version"):
        clip = CLIP(**config)
        with safe_open(path, "pt") as file:
            preprocess = json.loads(file.metadata()["preprocess"])
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 (it is no dictionary)
        rows = state.pop("token_embedding.rows")
        ids = state.pop("token_embedding.ids").long()
        if not random:
            # The file stores only the words of the captions. All other words get their mean.
            table = rows.mean(0, keepdim=True).repeat(clip.vocab_size, 1)
            table[ids] = rows
            clip.load_state_dict(state | {"token_embedding.weight": table})
        size, mean, std = (preprocess[key] for key in ("image_size", "mean", "std"))
    return ClipBackbone(clip, name, size, mean, std)


def _load_with_open_clip(name: str, random: bool) -> ClipBackbone:
    """A folder with the layout of the hub, or a model of open_clip with the weights of a tag or a file."""
    import open_clip

    model_config(name)  # raises for an unknown name
    weights = None if random else find_weights(name)
    is_folder = Path(name).is_dir()
    model, _, tag = name.partition("/")
    published = {} if is_folder else open_clip.pretrained.get_pretrained_cfg(model, tag)
    before = logging.root.manager.disable
    logging.disable(logging.WARNING if random else before)  # open_clip warns of random weights
    try:
        clip = open_clip.create_model(
            f"local-dir:{name}" if is_folder else model,
            pretrained=None if is_folder else weights,
            load_weights=not random,
            require_pretrained=not random,
            pretrained_text=False,
            force_preprocess_cfg=published,
        )
    except Exception as error:  # open_clip raises many kinds: pickle, zip, key and shape errors
        reason = "not tensors alone" if isinstance(error, pickle.UnpicklingError) else one_line(error)
        if is_folder:
            raise CliplitError(f"{name}: not a CLIP that open_clip can load ({reason})") from None
        again = f"; remove {os.path.realpath(weights)} to download it again" if published and weights else ""
        raise CliplitError(f"{weights}: not the weights of CLIP '{model}' ({reason}){again}") from None
    finally:
        logging.disable(before)
    size, mean, std = (open_clip.get_model_preprocess_cfg(clip)[key] for key in ("size", "mean", "std"))
    return ClipBackbone(clip, name, size[0] if isinstance(size, tuple) else size, mean, std)
