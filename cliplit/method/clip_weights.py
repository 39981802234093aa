"""Find the weights of a CLIP by name on this machine, or download and check them."""

import json
import os
from pathlib import Path
from typing import Any

from safetensors import safe_open

import cliplit
from cliplit.errors import CliplitError, did_you_mean, one_line, shortened, told
from cliplit.files.atomic import digest_of, sha256
from cliplit.files.web import hub_address, hub_digest, reachable

QUICK = "-quickgelu"  # ending of open_clip's names of models with the activation QuickGELU
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # names on the hub, the first one preferred

EMBEDDED = {  # CLIPs that come with the package (docs/tiny.md)
    name: Path(cliplit.__file__).parent / "models" / f"{name}_clip.safetensors" for name in ("tiny", "tiny2")
}


def digest_of_weights(clip: str) -> str | None:
    """Digest of the weights of a CLIP that is a local file: of the content, if the file is small."""
    return digest_of(EMBEDDED.get(clip, Path(clip))) or digest_of(Path(clip.partition("/")[2]))


def has_resnet(name: str) -> bool:
    """Whether the named CLIP has a ResNet tower, which the identity loss needs."""
    return isinstance(model_config(name)["vision_cfg"].get("layers"), (list, tuple))


def model_config(name: str) -> dict[str, Any]:
    """The architecture of a CLIP (open_clip's `model_cfg`). Nothing is downloaded.

    Raises CliplitError for an unknown name, or a file or folder without a readable description.
    """
    path = EMBEDDED.get(name, Path(name))
    if not path.exists():
        import open_clip

        model, _, tag = name.partition("/")
        if tag and (config := open_clip.get_model_config(model)):
            return config
        listed = open_clip.list_pretrained()
        known = [*EMBEDDED, *(f"{model}/{tag}" for model, tag in listed if (model + QUICK, tag) not in listed)]
        raise CliplitError(
            f"CLIP '{name}' is unknown: not a file or folder, nor MODEL/TAG of open_clip "
            f"(e.g. ViT-B-32-quickgelu/openai), nor 'tiny' or 'tiny2'{did_you_mean(name, known)}"
        )
    kind = "no readable open_clip_config.json" if path.is_dir() else "not a CLIP of data_scripts/train_tiny_clip.py"
    with told(f"{path}: {kind}", f"for weights of an open_clip model use MODEL/{path}"):
        if path.is_dir():
            config = json.loads((path / "open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"]
        else:
            with safe_open(path, "pt") as file:
                config = json.loads(file.metadata()["model_cfg"])
        config["vision_cfg"].get("layers")
        return config


def find_weights(name: str, download: bool = True) -> str | None:
    """Local path of the weights of a CLIP. Missing weights of an open_clip model and tag are downloaded.

    Args:
        download: if False, look only on this machine, and return None if they are missing.
    Raises:
        CliplitError: unknown name, weights for another activation than the model's, or weights that cannot be found.
    """
    config = model_config(name)
    path = EMBEDDED.get(name, Path(name))
    model, _, tag = name.partition("/")
    if path.exists():
        return str(path)
    if Path(tag).is_file():
        return tag
    from huggingface_hub import constants, try_to_load_from_cache
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    published = get_pretrained_cfg(model, tag)
    # Weights trained with QuickGELU give wrong features with GELU, and vice versa. open_clip only warns about this.
    other = model.removesuffix(QUICK) if model.endswith(QUICK) else model + QUICK
    elsewhere = get_pretrained_cfg(other, tag)
    quick = (published or elsewhere).get("quick_gelu", False)
    if elsewhere and quick != config.get("quick_gelu", False):
        needed = "QuickGELU" if quick else "GELU"
        raise CliplitError(f"CLIP '{model}/{tag}': these weights need {needed}, unlike {model}; use {other}/{tag}")
    if not published:
        known = list_pretrained_tags_by_model(model)
        some = f" (tags: {shortened(known) or 'none'})"
        raise CliplitError(
            f"CLIP '{model}/{tag}': '{tag}' is neither a file nor a tag of {model}{some}{did_you_mean(tag, known)}"
        )
    repository, file = os.path.split(published["hf_hub"])  # the file name may be empty
    files = (file,) if file else WEIGHTS
    for file in files:
        if isinstance(cached := try_to_load_from_cache(repository, file), str):
            return cached
    if not download:
        return None
    hub = hub_address()
    if not reachable(hub):
        raise CliplitError(
            f"CLIP weights '{name}' are not on this machine (looked for {repository} in {constants.HF_HUB_CACHE}) and "
            f"{hub} cannot be reached; copy them there from a machine with network, or use --clip "
            f"(--identity-clip for that of the identity loss) {model}/FILE, --clip tiny, or --random-clip"
        )
    for file in files:
        if found := _download(name, repository, file, hub):
            return found
    raise CliplitError(f"CLIP weights '{name}': {hub} has no {' or '.join(files)} in {repository}")


def _download(name: str, repository: str, file: str, hub: str) -> str | None:
    """Download a file and check its SHA-256 on the hub. Returns its local path; None if the hub does not have it."""
    from huggingface_hub import hf_hub_download, hf_hub_url
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        promised = hub_digest(hf_hub_url(repository, file))
        path = hf_hub_download(repository, file)
    except Exception as error:  # from the hub's library, its HTTP library, or the system
        cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
        if getattr(getattr(cause, "response", None), "status_code", None) == 404:
            return None
        raise CliplitError(
            f"CLIP weights '{name}': {hub} can be reached, but the download failed ({one_line(cause)}); "
            f"run the same command again"
        ) from None
    if promised and sha256(Path(path)) != promised:  # the hub's library does not check this
        Path(path).resolve().unlink()
        Path(path).unlink(missing_ok=True)
        raise CliplitError(
            f"CLIP weights '{name}': what {hub} sent is not the file that it has (SHA-256 differs); nothing was "
            f"kept, run the same command again"
        )
    return path
