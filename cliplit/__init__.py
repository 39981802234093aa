"""cliplit: a reproducibility kit for CLIP-LIT (ICCV 2023). Importing it loads no weights and touches no device."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public names and where they live; imported at first use, so that `import cliplit` stays quick.
_EXPORTS = {
    "CliplitError": "errors",
    "Settings": "settings",
    "profile": "profiles",
    "Run": "method.run",
    "start_run": "method.run",
    "train": "method.training",
    "evaluate": "evaluation",
    "score": "scoring",
    "enhance": "inference",
    "Inference": "inference",
    "Conventions": "metrics",
    "Enhancer": "method.enhancer",
    "load_backbone": "method.clip",
    "load_enhancer": "method.checkpoints",
    "load_prompts": "method.checkpoints",
    "read_image": "files.tensors",
    "write_image": "files.tensors",
}
__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'cliplit' has no attribute '{name}'")
    return getattr(import_module(f"cliplit.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
