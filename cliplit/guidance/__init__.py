"""Guidances: what leads the enhancement network from backlit to well-lit images. One file for each kind.

base            the interface
prompts         clip-lit: a learned prompt pair                                    CLIP-LIT, section 3
latent          clip-lit-latent: a pair learned in CLIP's latent space             RAVE (ECCV 2024)
residual        rave: the direction from backlit to well-lit images, not learned   RAVE
adversarial     a discriminator of patches, learned along with the network         a rival in CLIP-LIT's ablations
none            the identity loss alone                                            a control
"""

import importlib.util
import inspect
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from cliplit.errors import CliplitError, one_line
from cliplit.settings import Settings

if TYPE_CHECKING:
    from cliplit.backbone import ClipBackbone
    from cliplit.guidance.base import Guidance

# Kind: module, class, and whether the rounds refine it; imported at first use, so that plans need no torch.
KINDS = {
    "clip-lit": ("prompts", "PromptGuidance", True),
    "clip-lit-latent": ("latent", "LatentGuidance", True),
    "rave": ("residual", "ResidualGuidance", False),
    "adversarial": ("adversarial", "AdversarialGuidance", False),
    "none": ("none", "NoGuidance", False),
}


def new_guidance(settings: Settings, clip: "ClipBackbone") -> "Guidance":
    """The untrained guidance of these settings.

    Raises:
        CliplitError: an unknown kind, or a file that does not have the class.
    """
    return _class(settings.guidance.kind)(settings, clip)


def is_refined(kind: str) -> bool:
    """Whether the rounds of a run refine this kind of guidance.

    Raises:
        CliplitError: as `new_guidance`.
    """
    return KINDS[kind][2] if kind in KINDS else _class(kind).refined


def guidance_file(kind: str) -> Path | None:
    """The file of a guidance of one's own; None for those above."""
    return None if kind in KINDS else Path(kind.rpartition(":")[0])


def _class(kind: str) -> type["Guidance"]:
    if kind in KINDS:
        module, name, _ = KINDS[kind]
        return getattr(import_module(f"cliplit.guidance.{module}"), name)
    from cliplit.guidance.base import Guidance

    file, _, name = kind.rpartition(":")
    if not Path(file).is_file():
        raise CliplitError(
            f"guidance.kind '{kind}' is neither one of {', '.join(KINDS)} nor FILE.py:CLASS with a file that is there"
        )
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file does
        raise CliplitError(f"{file}: cannot be imported ({type(error).__name__}: {one_line(error)})") from None
    found = getattr(module, name, None)
    if not (inspect.isclass(found) and issubclass(found, Guidance)):
        raise CliplitError(f"{file}: no subclass of cliplit.guidance.base.Guidance named '{name}'")
    needed = ("loss", "score", "learning_loss") if found.refined else ("loss", "score")
    missing = [method for method in needed if getattr(found, method) is getattr(Guidance, method)]
    if missing:
        raise CliplitError(f"{file}: {name} has no {' and no '.join(missing)}; see cliplit.guidance.base.Guidance")
    return found
