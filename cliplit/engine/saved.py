"""Tensors saved by PyTorch: written whole or not at all, read without running code."""

import io
from pathlib import Path
from typing import Any

import torch

from cliplit.errors import CliplitError, one_line
from cliplit.files.atomic import write_bytes


def save_tensors(content: Any, path: str | Path) -> None:
    """Write what `load_tensors` reads, atomically.

    Raises:
        OSError: it cannot be written; names the file (`torch.save` into a file does not).
    """
    whole = io.BytesIO()
    torch.save(content, whole)
    write_bytes(whole.getvalue(), path)


def load_tensors(path: str | Path) -> Any:
    """Tensors and plain values, on the CPU.

    Raises:
        CliplitError: it cannot be read, is damaged, or would run code.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises nearly everything: of pickle, zip, struct and the system
        name = type(error).__name__
        reason = name if len(one_line(error)) > 80 else f"{name}: {one_line(error)}"
        raise CliplitError(
            f"{path}: not a file of tensors that can be loaded without running code ({reason})"
        ) from None
