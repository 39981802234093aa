"""The tiny CLIPs and the enhancer on which the released code was run (see tests/golden/README.md)."""

from pathlib import Path

import torch
from open_clip.model import CLIP
from safetensors.torch import load_file

from cliplit.method.clip import ClipBackbone
from cliplit.method.enhancer import Enhancer

GOLDEN = Path(__file__).parents[1] / "golden"
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}


def golden_numbers() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "golden.safetensors")


def vit_backbone() -> ClipBackbone:
    vision = {"image_size": 224, "layers": 2, "width": 64, "head_width": 64, "patch_size": 32}
    clip = CLIP(64, vision, TEXT, quick_gelu=True)
    missing, unexpected = clip.load_state_dict(load_file(GOLDEN / "tiny_vit_clip.safetensors"), strict=False)
    if missing != ["token_embedding.weight"] or unexpected:
        raise ValueError(f"golden CLIP does not fit: {missing}, {unexpected}")
    return ClipBackbone(clip, "golden ViT", 224)


def resnet_backbone() -> ClipBackbone:
    vision = {"image_size": 224, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "patch_size": None}
    clip = CLIP(64, vision, TEXT, quick_gelu=True)
    _, unexpected = clip.load_state_dict(load_file(GOLDEN / "tiny_rn_visual.safetensors"), strict=False)
    if unexpected:
        raise ValueError(f"golden ResNet does not fit: {unexpected}")
    return ClipBackbone(clip, "golden ResNet", 224)


def random_enhancer() -> Enhancer:
    enhancer = Enhancer()
    enhancer.load_state_dict(load_file(GOLDEN / "unet_random.safetensors"))
    return enhancer
