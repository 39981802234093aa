"""cliplit: a reproducibility kit for CLIP-LIT (ICCV 2023). Importing it loads no weights and touches no device."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # so that editors and type checkers see them
    from cliplit.errors import CliplitError
    from cliplit.experiments.evaluation import evaluate
    from cliplit.files.tensors import read_image, write_image
    from cliplit.method.checkpoints import load_enhancer, load_prompts
    from cliplit.method.clip import load_backbone
    from cliplit.method.enhancer import Enhancer
    from cliplit.method.run import Run, start_run
    from cliplit.method.training import train
    from cliplit.profiles import profile
    from cliplit.scoring.files import score
    from cliplit.scoring.metrics import Conventions
    from cliplit.settings import Settings
    from cliplit_photos.inference import Inference, enhance

__version__ = "0.1.0"

# Public names and where they live; imported at first use, so that `import cliplit` stays quick.
_EXPORTS = {
    "CliplitError": "errors",
    "Settings": "settings",
    "profile": "profiles",
    "Run": "method.run",
    "start_run": "method.run",
    "train": "method.training",
    "evaluate": "experiments.evaluation",
    "score": "scoring.files",
    "enhance": "cliplit_photos.inference",
    "Inference": "cliplit_photos.inference",
    "Conventions": "scoring.metrics",
    "Enhancer": "method.enhancer",
    "load_backbone": "method.clip",
    "load_enhancer": "method.checkpoints",
    "load_prompts": "method.checkpoints",
    "read_image": "files.tensors",
    "write_image": "files.tensors",
}
__all__ = [
    "CliplitError",
    "Conventions",
    "Enhancer",
    "Inference",
    "Run",
    "Settings",
    "__version__",
    "enhance",
    "evaluate",
    "load_backbone",
    "load_enhancer",
    "load_prompts",
    "profile",
    "read_image",
    "score",
    "start_run",
    "train",
    "write_image",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'cliplit' has no attribute '{name}'")
    home = _EXPORTS[name]
    return getattr(import_module(home if home.startswith("cliplit_photos") else f"cliplit.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
