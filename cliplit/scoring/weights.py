"""The files that metrics need: which ones, where they are, what is missing; downloading and checking."""

import importlib.util
import json
import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import cliplit
from cliplit.errors import CliplitError, told
from cliplit.files.web import BY_HAND, HUB, fetch, hub_address, hub_digest, reachable
from cliplit.scoring.metrics import choose

WEIGHTS = Path(cliplit.__file__).parent / "models" / "metric_weights.json"  # by data_scripts/list_metric_weights.py


def missing_files(name: str) -> list[str]:
    """What a metric needs and this machine lacks: URLs, LIBRARY:NAME or package:NAME; empty for an unknown metric."""
    files = json.loads(WEIGHTS.read_text(encoding="utf-8"))["files"]
    return [wanted for wanted in files.get(name, []) if not _is_here(wanted)]


def why_unavailable(names: Iterable[str], look_online: bool = True) -> dict[str, str]:
    """Metrics that cannot be computed on this machine, with the reason.

    pyiqa downloads weights at first use. If `look_online`, a quick check tells whether it can.

    Raises CliplitError as `choose` does.
    """
    answers = cache(reachable)
    reasons: dict[str, str] = {}
    for name in choose(names):
        for wanted in missing_files(name):
            kind, _, rest = wanted.partition(":")
            reason = f"weights ({wanted.split('/')[-1]}) are missing"
            if kind == "package":
                reason = f"needs the Python package {rest}"
            elif look_online:
                on_hub = kind in ("timm", "hub") or wanted.startswith(HUB)
                origin = hub_address() if on_hub else "://".join(urlsplit(wanted)[:2])
                if answers(origin):
                    continue
                reason += f" and {origin} cannot be reached"
            reasons.setdefault(name, reason)
    return reasons


def available_now(missing: Mapping[str, str]) -> set[str]:
    """Those metrics that an evaluation had to leave out, but that can be computed by now."""
    return missing.keys() - why_unavailable(missing) if missing else set()


def left_out(unavailable: Mapping[str, str]) -> list[str]:
    """Lines such as "musiq, niqe left out: weights are missing": one per reason, without the names of the files."""
    groups: dict[str, list[str]] = {}
    for name, reason in unavailable.items():
        groups.setdefault(re.sub(r"^weights \(.*?\)", "weights", reason), []).append(name)
    return [f"{', '.join(names)} left out: {reason}" for reason, names in groups.items()]


def fetch_weights(name: str) -> list[Path]:
    """Download the files that a metric lacks, except those that only their library can download, at first use.

    Raises CliplitError if they cannot be downloaded, or differ from the published ones.
    """
    fetched = []
    for address in (file for file in missing_files(name) if "://" in file):
        # where pyiqa, torchvision and OpenAI's CLIP look for them
        folder = "clip" if "/clip/" in address else "pyiqa" if address.startswith(HUB) else "checkpoints"
        place = hub_folder() / folder / address.split("/")[-1]
        url = address.replace(HUB, hub_address(), 1)
        stated = address.split("/")[-2] if folder == "clip" else None  # SHA-256 of the publisher
        try:
            if folder == "pyiqa":
                with told(f"{url}: cannot be downloaded"):
                    stated = hub_digest(url)
            fetched.append(fetch(url, place, digest=stated))
        except CliplitError as error:
            by_hand = f"download the file yourself and put it into {place.parent}"
            raise CliplitError(f"metric '{name}': {str(error).replace(BY_HAND, by_hand)}") from None
    return fetched


def hub_folder() -> Path:
    """The folder of torch.hub's downloads; pyiqa's are in its folder `pyiqa`."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"
    return Path(home).expanduser() / "hub"


def _is_here(wanted: str) -> bool:
    kind, _, rest = wanted.partition(":")
    if kind == "package":
        return importlib.util.find_spec(rest) is not None
    if kind in ("timm", "hub"):
        from huggingface_hub.constants import HF_HUB_CACHE

        pattern = f"models--timm--{rest}.*" if kind == "timm" else "models--" + "--".join(rest.split("/")[:2])
        return any(Path(HF_HUB_CACHE).glob(pattern))
    folders = [hub_folder() / name for name in ("pyiqa", "checkpoints", "clip")] + [Path.home() / ".cache" / "clip"]
    return any((folder / wanted.split("/")[-1]).is_file() for folder in folders)
