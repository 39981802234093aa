"""List the files that each metric of the installed pyiqa downloads, in cliplit/models/metric_weights.json.

    python data_scripts/list_metric_weights.py

Every metric is built once with intercepted downloads, so nothing is downloaded or loaded. Run this script again when
the version of pyiqa in constraints.txt changes.
"""

import json
import pkgutil
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from unittest.mock import MagicMock, patch

import pyiqa
import pyiqa.archs
import scipy.io
import timm
import torch
import transformers
from pyiqa.default_model_configs import DEFAULT_CONFIGS
from tqdm import tqdm

TARGET = Path(__file__).parent.parent / "cliplit" / "models" / "metric_weights.json"
TIMM, HUB = "timm", "hub"  # libraries with their own caches of downloads


class NotLoadable(Exception):
    """Raised for a model that is too large to build just to find further files."""


def main() -> None:
    import_architectures()
    found = {name: weight_files(name) for name in tqdm(DEFAULT_CONFIGS)}
    files = {name: files for name, (files, _) in found.items()}
    partly = [name for name, (_, whole) in found.items() if not whole]
    content = {"pyiqa": version("pyiqa"), "files": files, "perhaps more": partly}
    TARGET.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def import_architectures() -> None:
    """All modules with downloads to intercept. Some need packages that are not installed."""
    for module in pkgutil.iter_modules(pyiqa.archs.__path__, "pyiqa.archs."):
        try:
            import_module(module.name)
        except ImportError as error:
            print(f"{module.name}: {error}", file=sys.stderr)


def clip_loaders(asked: list[str]) -> list[tuple]:
    """Modules that load OpenAI's CLIP, with a substitute that only records the address."""

    def substitute(load):
        addresses, several = load.__globals__["_MODELS"], load.__module__.startswith("clip")

        def fake(model, *_, **__):
            asked.append(addresses[model])
            return (MagicMock(), MagicMock()) if several else MagicMock()

        return fake

    found = [(module, getattr(module, "__dict__", {}).get("load")) for module in list(sys.modules.values())]
    return [(module, substitute(load)) for module, load in found if "_MODELS" in getattr(load, "__globals__", {})]


def weight_files(name: str) -> tuple[list[str], bool]:
    """The requests of a metric (URL, LIBRARY:NAME, or package:NAME for a missing package), and whether it was built."""
    asked: list[str] = []
    whole = True

    def note(label: str, answer):
        asked.append(label)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def url(url, *_, **__):
        return note(url, {})

    patches = {
        "load_file_from_url": lambda url, *_, **__: note(url, "weights"),
        "load_state_dict_from_url": url,
        "hf_hub_download": lambda repo, file="", **__: note(f"{HUB}:{repo}/{file}", NotLoadable()),
    }
    replaced = [
        patch.object(module, attribute, substitute)
        for module in list(sys.modules.values())
        for attribute, substitute in patches.items()
        if callable(getattr(module, "__dict__", {}).get(attribute))
    ]
    replaced += [patch.object(module, "load", load) for module, load in clip_loaders(asked)]
    create = timm.create_model

    def timm_model(model, pretrained=False, **options):
        if pretrained:
            asked.append(f"{TIMM}:{model}")
        return create(model, pretrained=False, **options)

    replaced += [
        patch.object(torch, "load", lambda *_, **__: MagicMock()),
        patch.object(scipy.io, "loadmat", lambda *_, **__: MagicMock()),
        patch.object(torch.nn.Module, "load_state_dict", lambda *_, **__: MagicMock()),
        patch.object(torch.hub, "load", lambda repo, model, **__: note(f"{HUB}:{repo}/{model}", NotLoadable())),
        patch.object(torch.hub, "download_url_to_file", lambda address, *_, **__: note(address, NotLoadable())),
        patch.object(timm, "create_model", timm_model),
        patch.object(
            transformers.PreTrainedModel,
            "from_pretrained",
            classmethod(lambda _, repo, **__: note(f"{HUB}:{repo}", NotLoadable())),
        ),
    ]
    for one in replaced:
        one.start()
    try:
        pyiqa.create_metric(name, device="cpu")
    except ModuleNotFoundError as error:
        whole = False
        asked.append(f"package:{error.name}")
    except Exception as error:  # the fake weights may break anything; earlier requests are kept
        whole = False
        print(f"{name}: {type(error).__name__}: {str(error)[:100]}", file=sys.stderr)
    finally:
        for one in reversed(replaced):
            one.stop()
    return sorted(set(asked)), whole


if __name__ == "__main__":
    main()
