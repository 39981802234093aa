"""Weights of CLIPs: found by name on this machine, or downloaded and checked."""

import json
import os
import re
from pathlib import Path

from safetensors import safe_open

import cliplit
from cliplit.errors import CliplitError, did_you_mean, one_line, shortened
from cliplit.files.atomic import digest_of, sha256
from cliplit.files.web import reachable

QUICK = "-quickgelu"  # end of the names of open_clip's models with this activation
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # names on the hub, the first one found

EMBEDDED = {  # CLIPs that come with the package (docs/tiny.md)
    name: Path(cliplit.__file__).parent / "models" / f"{name}_clip.safetensors" for name in ("tiny", "tiny2")
}


def digest_of_weights(clip: str) -> str | None:
    """A digest of the weights of a CLIP that is a local file: of its content, if it is small."""
    files = (EMBEDDED.get(clip, Path(clip)), Path(clip.partition("/")[2]))
    path = next((file for file in files if file.is_file()), None)
    return digest_of(path) if path else None


def check_available(name: str, random: bool = False) -> None:
    """Find the weights of a CLIP, and download them if need be, without building it.

    Raises:
        CliplitError: unknown name, or weights that cannot be had.
    """
    path = EMBEDDED.get(name, Path(name))
    if path.is_file():
        file_config(path)
    elif path.is_dir():
        folder_config(path)
    else:
        resolve(name, random)


def cached_weights(name: str) -> str | None:
    """Local path of the weights of an open_clip model and tag, if they were downloaded before.

    Raises:
        CliplitError: unknown name, or weights of another activation than the model's.
    """
    import open_clip

    open_clip_config(name)
    model, tag = name.split("/", 1)
    _check_tag(model, tag)
    return _cached(open_clip.pretrained.get_pretrained_cfg(model, tag).get("hf_hub", ""))


def has_resnet(name: str) -> bool:
    """Whether the named CLIP has a ResNet tower, so that it can serve the identity loss too."""
    path = EMBEDDED.get(name, Path(name))
    if path.is_file():
        config = file_config(path)
    elif path.is_dir():
        config = folder_config(path)["model_cfg"]
    else:
        config = open_clip_config(name)
    return isinstance(config["vision_cfg"].get("layers"), (list, tuple))


def resolve(name: str, random: bool) -> tuple[str, dict, str | None]:
    """Model, open_clip's notes on its weights, and their local path (None for random ones)."""
    import open_clip

    open_clip_config(name)
    model, tag = name.split("/", 1)
    config = open_clip.pretrained.get_pretrained_cfg(model, tag)
    return model, config, None if random else _weights_file(name, model, tag, config)


def _check_tag(model: str, tag: str) -> None:
    """Weights learned with QuickGELU give other features in a model with GELU, and the reverse; open_clip only warns.

    Raises:
        CliplitError: no such weights of this model, or of another activation; names the model that fits.
    """
    import open_clip

    published = open_clip.pretrained.get_pretrained_cfg(model, tag)
    other = model.removesuffix(QUICK) if model.endswith(QUICK) else model + QUICK
    elsewhere = open_clip.pretrained.get_pretrained_cfg(other, tag)
    wanted = _activation(published or elsewhere)
    if elsewhere and wanted != _activation(open_clip.get_model_config(model)):
        raise CliplitError(f"CLIP '{model}/{tag}': these weights need {wanted}, unlike {model}; use {other}/{tag}")
    if not published:
        known = open_clip.list_pretrained_tags_by_model(model)
        some = f" (tags: {shortened(known) or 'none'})"
        raise CliplitError(
            f"CLIP '{model}/{tag}': '{tag}' is neither a file nor a tag of {model}{some}{did_you_mean(tag, known)}"
        )


def _activation(config: dict) -> str:
    return "QuickGELU" if config.get("quick_gelu") else "GELU"


def _weights_file(name: str, model: str, tag: str, config: dict) -> str:
    """Local path of the weights; downloads them if the hub can be reached, and finds that out quickly."""
    import open_clip

    if Path(tag).is_file():
        return tag
    _check_tag(model, tag)
    place = config.get("hf_hub", "")
    if cached := _cached(place):
        return cached
    source = os.environ.get("HF_ENDPOINT", "https://huggingface.co") if place else config["url"]
    if not reachable(source):
        raise CliplitError(
            f"CLIP weights '{name}' are not on this machine (looked for {place.rstrip('/') or config['url']} in "
            f"{_cache()}) and {source} cannot be reached; copy them there from a machine with network, or use --clip "
            f"(--identity-clip for that of the identity loss) {model}/FILE, --clip tiny, or --random-clip"
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


def open_clip_config(name: str) -> dict:
    import open_clip

    model, _, tag = name.partition("/")
    config = open_clip.get_model_config(model) if tag else None
    if config is None:
        listed = open_clip.list_pretrained()
        known = [*EMBEDDED, *(f"{model}/{tag}" for model, tag in listed if (model + QUICK, tag) not in listed)]
        raise CliplitError(
            f"CLIP '{name}' is unknown: not a file or folder, nor MODEL/TAG of open_clip "
            f"(e.g. ViT-B-32-quickgelu/openai), nor 'tiny' or 'tiny2'{did_you_mean(name, known)}"
        )
    return config


def file_config(path: Path) -> dict:
    try:
        with safe_open(path, "pt") as file:
            config = json.loads(file.metadata()["model_cfg"])
        config["vision_cfg"].get("layers")
        return config
    except Exception as error:  # safetensors has no public error class for a bad header
        raise CliplitError(
            f"{path}: not a CLIP of data_scripts/train_tiny_clip.py ({one_line(error)}); "
            f"for weights of an open_clip model use MODEL/{path}"
        ) from None


def folder_config(path: Path) -> dict:
    try:
        config = json.loads((path / "open_clip_config.json").read_text(encoding="utf-8"))
        config["model_cfg"]["vision_cfg"].get("layers")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CliplitError(f"{path}: no readable open_clip_config.json ({one_line(error)})") from None
    return config
