"""Frozen CLIP backbones, loaded through open_clip and named by a string.

tiny                             the embedded stand-in, no network
MODEL/TAG                        any open_clip model and tag, e.g. ViT-B-32-quickgelu/openai
MODEL/FILE                       an open_clip model with weights from a local file
FILE.safetensors                 a file of data_scripts/train_tiny_clip.py
FOLDER                           open_clip_config.json and weights, as on the hub
"""

import json
import os
import pickle
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from cliplit.devices import reduced_precision
from cliplit.errors import CliplitError, check_images, one_line
from cliplit.files.atomic import sha256
from cliplit.files.web import reachable
from cliplit.runs import TINY

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # names on the hub, the first one found


class ClipBackbone(nn.Module):
    """A frozen CLIP, read the way CLIP-LIT reads it.

    Images are (N, 3, H, W) in [0, 1], of any size; they are resized to `image_size` squared and normalised here.
    """

    bf16 = False  # encode images in bfloat16 where that is safe; what comes out has the type of the images

    def __init__(
        self,
        clip: nn.Module,
        name: str,
        image_size: int,
        mean=OPENAI_MEAN,
        std=OPENAI_STD,
        antialias=False,
        vocabulary: Tensor | None = None,
    ):
        super().__init__()
        self.clip = clip.eval().requires_grad_(False)
        self.text = getattr(clip, "text", clip)
        self.name, self.image_size, self.antialias = name, image_size, antialias
        self._vocabulary = vocabulary  # ids of the tokens that it knows; None: all but start and end
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    @property
    def embed_dim(self) -> int:
        """D, the size of image and text features."""
        projection = self.text.text_projection
        return projection.out_features if isinstance(projection, nn.Linear) else projection.shape[1]

    def preprocess(self, images: Tensor) -> Tensor:
        """Resize bilinearly (antialiased only if `antialias`; the paper's torchvision did not) and normalise."""
        check_images(images)
        size = (self.image_size, self.image_size)
        resized = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=self.antialias)
        return (resized - self.mean) / self.std

    def encode_image(self, images: Tensor) -> Tensor:
        """Image features (N, D), not normalised."""
        seen = self.preprocess(images)
        with reduced_precision(images.device, self.bf16):
            return self.clip.visual(seen).to(seen)

    def encode_with_activations(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Image features (N, D) and the activations of the ResNet's stem and stages 1-4, in one pass."""
        activations = self.encode_activations(images)
        return self.pool(activations[-1]), activations

    def pool(self, activation: Tensor) -> Tensor:
        """Image features (N, D) of the activation of the ResNet's last stage."""
        with reduced_precision(activation.device, self.bf16):
            return self.clip.visual.attnpool(activation).to(activation)

    def encode_activations(self, images: Tensor) -> list[Tensor]:
        """Activations of the ResNet's stem and stages 1-4 alone.

        Raises:
            CliplitError: this CLIP has no ResNet.
        """
        visual = self.clip.visual
        if not self._has_resnet:
            raise CliplitError(f"CLIP '{self.name}' has no ResNet tower, which the identity loss needs; use e.g. RN101")
        seen = self.preprocess(images)
        with reduced_precision(images.device, self.bf16):
            activations = [visual.stem(seen)]
            for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
                activations.append(stage(activations[-1]))
        return [activation.to(seen) for activation in activations]

    def compiled_parts(self) -> list[nn.Module]:
        """What torch.compile is worth while for: the image encoder, stage by stage if it is a ResNet."""
        visual = self.clip.visual
        return [visual.layer1, visual.layer2, visual.layer3, visual.layer4] if self._has_resnet else [visual]

    @property
    def _has_resnet(self) -> bool:
        return hasattr(self.clip.visual, "attnpool")

    def tokenize(self, text: str) -> tuple[Tensor, int]:
        """Token ids (1, context length) of a text and the position of its end token."""
        import open_clip

        ids = open_clip.tokenize([text], context_length=self.text.positional_embedding.shape[0])
        return ids, int(ids.argmax())

    def embed(self, text: str) -> tuple[Tensor, int]:
        """Token embeddings (1, context length, W) of a text and the position of its end token."""
        ids, end = self.tokenize(text)
        return self.text.token_embedding(ids.to(self.mean.device)), end

    def encode_prompts(self, embeddings: Tensor, end: int) -> Tensor:
        """Text features (K, D), not normalised, of token embeddings (K, L, W), read at position `end`.

        Attention is causal, so only the positions up to `end` are computed: exact, and 4 times cheaper.
        """
        text, length = self.text, end + 1
        x = embeddings[:, :length] + text.positional_embedding[:length]
        x = text.ln_final(text.transformer(x, attn_mask=text.attn_mask[:length, :length]))[:, end]
        projection = text.text_projection
        return projection(x) if isinstance(projection, nn.Linear) else x @ projection

    def encode_text(self, text: str) -> Tensor:
        """Text features (1, D), not normalised, of a text."""
        return self.encode_prompts(*self.embed(text))

    def vocabulary(self) -> Tensor:
        """Ids of all tokens that the text tower knows, without start and end: (V,)."""
        known = self._vocabulary if self._vocabulary is not None else torch.arange(self.text.vocab_size)
        start, end = self._delimiters()
        return known[(known != start) & (known != end)]

    def word(self, token: int) -> str:
        """The text of a token."""
        import open_clip

        return open_clip.decode(torch.tensor([token])).strip()

    def encode_tokens(self, ids: Tensor) -> Tensor:
        """Text features (K, D), not normalised, of single tokens (K,), each a text of its own."""
        start, end = self._delimiters()
        texts = torch.stack([torch.full_like(ids, start), ids, torch.full_like(ids, end)], 1)
        return self.encode_prompts(self.text.token_embedding(texts.to(self.mean.device)), 2)

    def _delimiters(self) -> tuple[int, int]:
        ids, end = self.tokenize("")
        return int(ids[0, 0]), int(ids[0, end])


def load_backbone(name: str, *, random: bool = False, seed: int = 0, antialias: bool = False) -> ClipBackbone:
    """Load a CLIP by name (see the top of this file), or its architecture with random weights.

    Args:
        random: seeded random weights instead of the trained ones: a control, and no download.
        antialias: antialiased resizing; off in the released code.
    Raises:
        CliplitError: unknown name, weights that cannot be had, or a file that does not fit.
    """
    path = TINY if name == "tiny" else Path(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if path.is_file():
            return _load_file(path, name, random, antialias)
        if path.is_dir():
            return _load_folder(path, name, random, antialias)
        return _load_open_clip(name, random, antialias)


def check_available(name: str, random: bool = False) -> None:
    """Find the weights of a CLIP, and download them if need be, without building it.

    Raises:
        CliplitError: unknown name, or weights that cannot be had.
    """
    path = TINY if name == "tiny" else Path(name)
    if path.is_file():
        _file_config(path)
    elif path.is_dir():
        _folder_config(path)
    else:
        _resolve(name, random)


def cached_weights(name: str) -> str | None:
    """Local path of the weights of an open_clip model and tag, if they were downloaded before.

    Raises:
        CliplitError: unknown name.
    """
    import open_clip

    _open_clip_config(name)
    return _cached((open_clip.pretrained.get_pretrained_cfg(*name.split("/", 1)) or {}).get("hf_hub", ""))


def has_resnet(name: str) -> bool:
    """Whether the named CLIP has a ResNet tower, so that it can serve the identity loss too."""
    path = TINY if name == "tiny" else Path(name)
    if path.is_file():
        config = _file_config(path)
    elif path.is_dir():
        config = _folder_config(path)["model_cfg"]
    else:
        config = _open_clip_config(name)
    return isinstance(config["vision_cfg"].get("layers"), (list, tuple))


def _load_file(path: Path, name: str, random: bool, antialias: bool) -> ClipBackbone:
    from open_clip.model import CLIP

    clip = CLIP(**_file_config(path))
    with safe_open(path, "pt") as file:
        preprocess = json.loads(file.metadata()["preprocess"])
        state = {key: file.get_tensor(key).float() for key in file.keys()}
    rows, ids = state.pop("token_embedding.rows"), state.pop("token_embedding.ids").long()
    if not random:
        # Only the words of the captions are stored; all others share their mean.
        table = rows.mean(0, keepdim=True).repeat(clip.vocab_size, 1)
        table[ids] = rows
        _load_state(clip, state | {"token_embedding.weight": table}, path)
    return ClipBackbone(clip, name, preprocess["image_size"], preprocess["mean"], preprocess["std"], antialias, ids)


def _load_folder(path: Path, name: str, random: bool, antialias: bool) -> ClipBackbone:
    import open_clip

    config = _folder_config(path)
    try:
        clip = open_clip.create_model(f"local-dir:{path}", load_weights=not random, require_pretrained=not random)
    except (RuntimeError, ValueError, OSError, KeyError) as error:
        raise CliplitError(f"{path}: not a CLIP that open_clip can load ({one_line(error)})") from None
    preprocess = config.get("preprocess_cfg", {})
    return _from_open_clip(clip, name, preprocess, antialias)


def _load_open_clip(name: str, random: bool, antialias: bool) -> ClipBackbone:
    import open_clip

    model, config, weights = _resolve(name, random)
    try:
        clip = open_clip.create_model(model, pretrained=weights, pretrained_text=False)
    except Exception as error:  # open_clip lets every kind through: pickle, zip, key and shape errors
        reason = "not tensors alone" if isinstance(error, pickle.UnpicklingError) else one_line(error)
        again = f"; remove {os.path.realpath(weights)} to download it again" if config and weights else ""
        raise CliplitError(f"{weights}: not the weights of CLIP '{model}' ({reason}){again}") from None
    return _from_open_clip(clip, name, config, antialias)


def _resolve(name: str, random: bool) -> tuple[str, dict, str | None]:
    """Model, open_clip's notes on its weights, and their local path (None for random ones)."""
    import open_clip

    _open_clip_config(name)
    model, tag = name.split("/", 1)
    config = open_clip.pretrained.get_pretrained_cfg(model, tag)
    return model, config, None if random else _weights_file(name, model, tag, config)


def _from_open_clip(clip: nn.Module, name: str, preprocess: dict, antialias: bool) -> ClipBackbone:
    size = clip.visual.image_size
    mean, std = preprocess.get("mean", OPENAI_MEAN), preprocess.get("std", OPENAI_STD)
    return ClipBackbone(clip, name, size[0] if isinstance(size, tuple) else size, mean, std, antialias)


def _weights_file(name: str, model: str, tag: str, config: dict) -> str:
    """Local path of the weights; downloads them if the hub can be reached, and finds that out quickly."""
    import open_clip

    if Path(tag).is_file():
        return tag
    if not config:
        known = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise CliplitError(f"CLIP '{name}': '{tag}' is neither a file nor a tag of {model} (tags: {known})")
    place = config.get("hf_hub", "")
    if cached := _cached(place):
        return cached
    source = os.environ.get("HF_ENDPOINT", "https://huggingface.co") if place else config["url"]
    if not reachable(source):
        raise CliplitError(
            f"CLIP weights '{name}' are not on this machine (looked for {place.rstrip('/') or config['url']} in "
            f"{_cache()}) and {source} cannot be reached; copy them there from a machine with network, or use --clip "
            f"{model}/FILE, --clip tiny, or --random-clip"
        )
    return _from_hub(name, place, source) if place else open_clip.pretrained.download_pretrained(config)


def _from_hub(name: str, place: str, source: str) -> str:
    """Local path of the weights, downloaded and compared with their hash on the hub."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository, files = _hub_files(place)
    for file in files:
        try:
            promised = get_hf_file_metadata(hf_hub_url(repository, file)).etag
            path = hf_hub_download(repository, file)
        except Exception as error:  # of the hub's library, of what it uses for HTTP, and of the system
            cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
            if getattr(getattr(cause, "response", None), "status_code", None) != 404:
                raise _failed(name, source, cause) from None
            continue
        _check_hash(path, promised, name, source)
        return path
    raise CliplitError(f"CLIP weights '{name}': {source} has no {' or '.join(files)} in {repository}")


def _check_hash(path: str, promised: str | None, name: str, source: str) -> None:
    """Large files of the hub have their SHA-256 as ETag; its library does not look."""
    if promised and re.fullmatch("[0-9a-f]{64}", promised) and sha256(Path(path)) != promised:
        Path(path).resolve().unlink()
        Path(path).unlink(missing_ok=True)
        raise CliplitError(
            f"CLIP weights '{name}': what {source} sent is not the file that it has (SHA-256 differs); nothing was "
            f"kept, run the same command again"
        )


def _failed(name: str, source: str, error: BaseException) -> CliplitError:
    return CliplitError(
        f"CLIP weights '{name}': {source} can be reached, but the download failed ({one_line(error)}); "
        f"run the same command again"
    )


def _cached(place: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    repository, files = _hub_files(place)
    found = (try_to_load_from_cache(repository, file) for file in files if repository)
    return next((path for path in found if isinstance(path, str)), None)


def _hub_files(place: str) -> tuple[str, tuple[str, ...]]:
    """Repository and file names of open_clip's "owner/name/" or "owner/name/file"."""
    repository, file = os.path.split(place)
    return repository, (file,) if file else WEIGHTS


def _cache() -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    return HF_HUB_CACHE


def _open_clip_config(name: str) -> dict:
    import open_clip

    model, _, tag = name.partition("/")
    config = open_clip.get_model_config(model) if tag else None
    if config is None:
        raise CliplitError(
            f"CLIP '{name}' is unknown: not a file or folder, nor MODEL/TAG of open_clip "
            f"(e.g. ViT-B-32-quickgelu/openai), nor 'tiny'"
        )
    return config


def _file_config(path: Path) -> dict:
    try:
        with safe_open(path, "pt") as file:
            return json.loads(file.metadata()["model_cfg"])
    except Exception as error:  # safetensors has no public error class for a bad header
        raise CliplitError(
            f"{path}: not a CLIP of data_scripts/train_tiny_clip.py ({one_line(error)}); "
            f"for weights of an open_clip model use MODEL/{path}"
        ) from None


def _folder_config(path: Path) -> dict:
    try:
        config = json.loads((path / "open_clip_config.json").read_text())
        config["model_cfg"]["vision_cfg"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CliplitError(f"{path}: no readable open_clip_config.json ({one_line(error)})") from None
    return config


def _load_state(clip: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    try:
        clip.load_state_dict(state)
    except RuntimeError as error:
        raise CliplitError(f"{path}: weights do not fit its own model_cfg ({one_line(error)})") from None
