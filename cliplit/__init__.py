"""cliplit: a reproducibility kit for CLIP-LIT (ICCV 2023). Importing it loads no weights and touches no device."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # so that editors and type checkers see them
    from cliplit.errors import CliplitError
    from cliplit.experiments.evaluation import evaluate
    from cliplit.files.tensors import read_image
    from cliplit.method.checkpoints import load_enhancer, load_prompts
    from cliplit.method.clip import load_backbone
    from cliplit.method.enhancer import Enhancer
    from cliplit.method.run import Run, start_run
    from cliplit.method.training import train
    from cliplit.profiles import profile
    from cliplit.scoring.files import score
    from cliplit.scoring.metrics import Conventions
    from cliplit.settings import Settings
    from cliplit_photos.inference import Inference, enhance, write_image

__version__ = "0.1.0"
__all__ = ["CliplitError", "Conventions", "Enhancer", "Inference", "Run", "Settings", "__version__", "enhance"]
__all__ += ["evaluate", "load_backbone", "load_enhancer", "load_prompts", "profile", "read_image", "score"]
__all__ += ["start_run", "train", "write_image"]

# Where the public names live. They are imported at first use, so that `import cliplit` stays quick.
_HOMES = {
    "cliplit.errors": ("CliplitError",),
    "cliplit.experiments.evaluation": ("evaluate",),
    "cliplit.files.tensors": ("read_image",),
    "cliplit.method.checkpoints": ("load_enhancer", "load_prompts"),
    "cliplit.method.clip": ("load_backbone",),
    "cliplit.method.enhancer": ("Enhancer",),
    "cliplit.method.run": ("Run", "start_run"),
    "cliplit.method.training": ("train",),
    "cliplit.profiles": ("profile",),
    "cliplit.scoring.files": ("score",),
    "cliplit.scoring.metrics": ("Conventions",),
    "cliplit.settings": ("Settings",),
    "cliplit_photos.inference": ("Inference", "enhance", "write_image"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'cliplit' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
