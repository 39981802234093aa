"""How training computes: device, precision, memory layout, compiled or not, deterministic or not.

None of it changes the maths; settings of the group `engine` change results by rounding.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

from cliplit import processes
from cliplit.backbone import ClipBackbone
from cliplit.devices import find_device
from cliplit.enhancer import Enhancer
from cliplit.errors import CliplitError
from cliplit.recording import check_tensorboard
from cliplit.settings import Settings

PRECISIONS = ("auto", "fp32", "bf16")
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt, malloc.h of glibc

Module = TypeVar("Module", ClipBackbone, Enhancer)


@dataclass(frozen=True)
class Engine:
    """What a training stage computes with."""

    device: torch.device
    bf16: bool  # in networks and image encoders; losses are always computed in float32
    compiled: bool

    def place(self, module: Module) -> Module:
        """A network or encoder on the device, with convolutions in channels-last layout, in the wanted precision."""
        module = module.to(self.device, memory_format=torch.channels_last)
        module.bf16 = self.bf16
        if self.compiled:
            for part in module.compiled_parts():
                part.compile()
        return module


@contextlib.contextmanager
def engine(settings: Settings) -> Iterator[Engine]:
    """The engine of a run. PyTorch's generator and switches are set for the block and put back after it.

    Raises:
        CliplitError: no such device, or an unknown precision.
    """
    options, device = settings.engine, check_engine(settings)
    if device.type == "cpu":
        _keep_memory()
    bf16 = options.precision == "bf16" or (options.precision == "auto" and device.type == "cuda")
    with torch.random.fork_rng([device] if device.type == "cuda" else []), _switches(options.deterministic):
        torch.manual_seed(settings.seed)  # for a guidance of one's own that draws from PyTorch's generator
        yield Engine(device, bf16, options.compile)


def check_engine(settings: Settings) -> torch.device:
    """The device of a run, after a look at what else training needs here.

    Raises:
        CliplitError: no such device, an unknown precision, or TensorBoard is asked for and missing.
    """
    if settings.engine.precision not in PRECISIONS:
        raise CliplitError(f"engine.precision '{settings.engine.precision}'; valid: {', '.join(PRECISIONS)}")
    check_tensorboard(settings.watch)
    return pick_device(settings)


def pick_device(settings: Settings) -> torch.device:
    """The device of a run; among several processes, this one's.

    Raises:
        CliplitError: no such device here.
    """
    own = processes.own_device() if settings.device == "auto" else None
    return own or find_device(settings.device)


@contextlib.contextmanager
def _switches(deterministic: bool) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS when it starts
    torch.use_deterministic_algorithms(deterministic, warn_only=deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=warn_only)
        torch.backends.cudnn.benchmark = before[1]


def _keep_memory() -> None:
    """Let glibc keep what is freed: else every large activation is asked of the system, and cleared, anew.

    Costs some memory: what is kept is in pieces.
    """
    with contextlib.suppress(OSError, AttributeError):  # another libc
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(TRIM_THRESHOLD, (1 << 31) - 1)
