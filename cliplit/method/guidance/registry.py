"""Guidances by kind: those of this package, or a class in the user's own file."""

import inspect
from importlib import import_module
from pathlib import Path
from runpy import run_path
from typing import TYPE_CHECKING

from cliplit.errors import CliplitError, did_you_mean, one_line
from cliplit.settings import Settings

if TYPE_CHECKING:
    from cliplit.method.clip import ClipBackbone
    from cliplit.method.guidance.base import Guidance

# Kind: module, class, and whether the rounds refine it. Modules are imported at the first use, so plans need no torch.
BUILT_IN = {
    "clip-lit": ("clip_lit", "PromptGuidance", True),
    "clip-lit-latent": ("clip_lit", "LatentGuidance", True),
    "rave": ("others", "ResidualGuidance", False),
    "adversarial": ("others", "AdversarialGuidance", False),
    "none": ("others", "NoGuidance", False),
}


def new_guidance(settings: Settings, clip: "ClipBackbone") -> "Guidance":
    """The untrained guidance of these settings. Raises CliplitError for an unknown kind or class."""
    return _class(settings.guidance.kind)(settings, clip)


def is_refined(kind: str) -> bool:
    """Whether the rounds of a run refine this kind of guidance. Raises as `new_guidance` does."""
    return BUILT_IN[kind][2] if kind in BUILT_IN else _class(kind).refined


def _class(kind: str) -> type["Guidance"]:
    if kind in BUILT_IN:
        file, name, _ = BUILT_IN[kind]
        return getattr(import_module(f"cliplit.method.guidance.{file}"), name)
    from cliplit.method.guidance.base import Guidance

    file, _, name = kind.rpartition(":")
    if not Path(file).is_file():
        raise CliplitError(
            f"guidance.kind '{kind}' is neither one of {', '.join(BUILT_IN)} nor FILE.py:CLASS with a file that is there"
            f"{did_you_mean(kind, BUILT_IN)}"
        )
    try:
        found = run_path(file, run_name=Path(file).stem).get(name)
    except Exception as error:  # the user's file may raise anything
        raise CliplitError(f"{file}: cannot be imported ({type(error).__name__}: {one_line(error)})") from None
    if not (inspect.isclass(found) and issubclass(found, Guidance)):
        raise CliplitError(f"{file}: no subclass of cliplit.method.guidance.base.Guidance named '{name}'")
    needed = ("loss", "score", "learning_loss") if found.refined else ("loss", "score")
    missing = [method for method in needed if getattr(found, method) is getattr(Guidance, method)]
    if missing:
        raise CliplitError(
            f"{file}: {name} has no {' and no '.join(missing)}; see cliplit.method.guidance.base.Guidance"
        )
    return found
