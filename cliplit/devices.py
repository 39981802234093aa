"""Where to compute."""

import torch

from cliplit.errors import CliplitError


def find_device(name: str = "auto") -> torch.device:
    """A device by name; for "auto" the first GPU, if there is one.

    Raises:
        CliplitError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise CliplitError(f"device '{name}' cannot be used here ({reason}); try auto or cpu") from None


def reduced_precision(device: torch.device, wanted: bool) -> torch.autocast:
    """Context of a network's layers: bfloat16 where that is safe, if wanted. What comes out may be bfloat16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)
