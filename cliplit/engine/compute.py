"""Where and how training computes: device, precision, memory layout, deterministic or not.

None of it changes the maths. The settings of the group `engine` change results by rounding only.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch

from cliplit.engine import processes
from cliplit.engine.interrupts import Interrupts, interrupts
from cliplit.errors import CliplitError, one_line
from cliplit.settings import Settings

BF16_OF_CPUS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")  # as torch.cpu.get_capabilities names them: x86, ARM
ALLOCATOR = "can't allocate memory"  # in PyTorch's error on a CPU
APPLE = "MPS"  # in all of PyTorch's errors on Apple's device
# Parameters of mallopt, from malloc.h of glibc.
TRIM_THRESHOLD = -1
MMAP_THRESHOLD = -3


@dataclass(frozen=True)
class Machine:
    """What a training stage computes with."""

    device: torch.device
    bf16: bool  # in networks and image encoders; losses are always computed in float32
    interrupts: Interrupts  # whether the user asked to stop
    placed: list[Any] = field(default_factory=list)

    def place(self, module: Any) -> Any:
        """Move a network or encoder to the device, with channels-last convolutions and the wanted precision.

        The precision is its attribute `bf16`, which holds until the block of `engine` ends.
        """
        module = module.to(self.device, memory_format=torch.channels_last)
        module.bf16 = self.bf16
        self.placed.append(module)
        return module


@contextlib.contextmanager
def engine(settings: Settings) -> Iterator[Machine]:
    """The engine of a run. It sets PyTorch's generator and switches, and signals, and restores them after the block.

    Raises CliplitError as `find_device` does.
    """
    options = settings.engine
    device = find_device(settings.device)
    if device.type == "cpu":
        keep_freed_memory(1 << 30)
    wanted = options.precision if options.precision != "auto" else "bf16" if device.type == "cuda" else "fp32"
    bf16 = usable_precision(wanted, device) == "bf16"
    before = torch.get_deterministic_debug_mode()
    benchmark = torch.backends.cudnn.benchmark
    with interrupts() as asked, torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(settings.seed)  # for a user's guidance that draws from PyTorch's generator
        if options.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
        torch.set_deterministic_debug_mode("warn" if options.deterministic else "default")
        torch.backends.cudnn.benchmark = not options.deterministic
        machine = Machine(device, bf16, asked)
        try:
            yield machine
        finally:
            torch.set_deterministic_debug_mode(before)
            torch.backends.cudnn.benchmark = benchmark
            for module in machine.placed:
                module.bf16 = False


@contextlib.contextmanager
def limits_told(hint: str) -> Iterator[None]:
    """Turn lack of memory, or an operation that a device does not support, into a CliplitError that says what to change.

    Args:
        hint: what to change if memory is short.
    """
    try:
        yield
    except (RuntimeError, MemoryError, TypeError) as error:  # TypeError: float64 on Apple's device
        reason = one_line(error)
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or ALLOCATOR in reason:
            raise CliplitError(f"out of memory ({reason}); {hint}") from None
        if APPLE in reason:
            raise CliplitError(
                f"device 'mps' does not support an operation ({reason}); use the device cpu, "
                f"or set PYTORCH_ENABLE_MPS_FALLBACK=1 and start again"
            ) from None
        raise


def keep_freed_memory(largest: int) -> None:
    """Let glibc keep freed blocks of up to this many bytes. Otherwise the system allocates and clears each one again.

    This costs some memory, because the kept blocks are fragmented. With another C library nothing changes.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # TypeError: Windows
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_THRESHOLD, largest)
        libc.mallopt(TRIM_THRESHOLD, min(2 * largest, (1 << 31) - 1))


def find_device(name: str = "auto") -> torch.device:
    """A device by name. "auto" is the first GPU if there is one; with several processes, it is this process's device.

    Raises CliplitError if there is no such device here.
    """
    if name == "auto" and processes.count() > 1:
        return processes.own_device()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = one_line(error).partition(". ")[0]
        raise CliplitError(f"device '{name}' cannot be used here ({reason}); try auto or cpu") from None


@cache  # so that the message appears once
def usable_precision(wanted: str, device: torch.device) -> str:
    """The wanted precision, but fp32 if the device has no bfloat16: emulating it takes many times as long."""
    able = True  # as far as PyTorch can tell
    if device.type == "cuda":
        able = torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
    elif device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):  # not in older PyTorch
        found = torch.cpu.get_capabilities()
        able = any(found.get(name) for name in BF16_OF_CPUS)
    if wanted != "bf16" or able:
        return wanted
    processes.say(f"bf16: this {device.type} has no bfloat16 and would emulate it slowly; computing in fp32")
    return "fp32"
