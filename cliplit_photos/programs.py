"""Exports the network as a program: ONNX, or a file of torch.export. The program takes images of any size."""

import importlib.util
import io
import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cliplit
from cliplit.errors import CliplitError, one_line
from cliplit.files.atomic import write_bytes
from cliplit.method.checkpoints import PROGRAMS, load_enhancer, read_metadata
from cliplit.method.enhancer import Enhancer, reduced_size, upsample_along_edges, working_size

ONNX = ("onnx", "onnxscript", "onnxruntime")  # packages of the extra
OPSET = 18  # of ONNX
LEAST = 8  # pixels, smallest side of an image
TRIED = ((301, 413), (97, 530), (2001, 9))  # sizes in pixels of the images to compare on
STEP = 1 / 255  # largest difference allowed


class Program(nn.Module):
    """An image (1, 3, H, W) in [0, 1] -> its result, of the same shape and range; the same numbers as the network's.

    All sizes are expressions of H and W. Unlike the network, the program also filters an image along its edges if the
    image is smaller than the working size.
    """

    def __init__(self, network: Enhancer):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        side, factor = (self.network.architecture[name] for name in ("longer_side", "downscale"))
        size = reduced_size(image.shape[-2:], side)
        copy = _averaged(image, size) if side else image
        small = _averaged(copy, working_size(copy.shape[-2:], factor)) if factor > 1 else copy
        maps = self.network.layers(small)
        maps = F.interpolate(maps, copy.shape[-2:], mode="bilinear") if factor > 1 else maps
        return self.network.divide(image, upsample_along_edges(_averaged(maps, size), copy, image) if side else maps)


def export_program(checkpoint: str | Path, target: Path) -> Path:
    """Write a checkpoint as a program, atomically, after comparing it with the network itself.

    Args:
        target: .onnx (opset 18, one input `image` and one output `result`, metadata `cliplit`; needs the extra `onnx`),
            or .pt2, for `torch.export.load`.
    Raises:
        CliplitError: another ending, a missing extra, or results that differ by one step of 8 bits or more.
    """
    if target.suffix not in PROGRAMS:
        raise CliplitError(f"{target}: the file name must end in {' or '.join(PROGRAMS)}")
    lacking = [name for name in ONNX if target.suffix == ".onnx" and importlib.util.find_spec(name) is None]
    if lacking:
        raise CliplitError(f"export to ONNX needs {lacking[0]}: pip install 'cliplit[onnx]'")
    network = load_enhancer(checkpoint).requires_grad_(False)
    notes = json.dumps({"cliplit": cliplit.__version__, "checkpoint": read_metadata(checkpoint)})
    image = torch.rand(1, 3, *TRIED[0], generator=torch.Generator().manual_seed(0))
    sides = {2: torch.export.Dim.DYNAMIC(min=LEAST), 3: torch.export.Dim.DYNAMIC(min=LEAST)}
    with torch.no_grad():
        exported = torch.export.export(Program(network).eval(), (image,), dynamic_shapes=(sides,))
    content, run = (_onnx if target.suffix == ".onnx" else _pt2)(exported, notes)
    for n, size in enumerate(TRIED):
        image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(n))
        try:
            result = run(image)
        except Exception as error:  # each runtime has its own
            raise CliplitError(f"{target}: the exported program does not run ({one_line(error)})") from None
        apart = (result - network.enhance(image)).abs().max().item()
        if not apart < STEP:
            raise CliplitError(f"{target}: results differ by {255 * apart:.1f} steps of 8 bits; nothing was written")
    write_bytes(content, target)
    return target


def _pt2(exported: torch.export.ExportedProgram, notes: str) -> tuple[bytes, Callable[[Tensor], Tensor]]:
    """The content of the file, and what runs it."""
    buffer = io.BytesIO()
    torch.export.save(exported, buffer, extra_files={"notes.json": notes})
    content = buffer.getvalue()
    return content, torch.export.load(io.BytesIO(content)).module()


def _onnx(exported: torch.export.ExportedProgram, notes: str) -> tuple[bytes, Callable[[Tensor], Tensor]]:
    """The content of the file, and what runs it."""
    import onnxruntime

    made = torch.onnx.export(
        exported, dynamo=True, opset_version=OPSET, input_names=["image"], output_names=["result"], verbose=False
    )
    model = made.model_proto  # type: ignore[union-attr]
    model.metadata_props.add(key="cliplit", value=notes)
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return content, lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0])


def _averaged(image: Tensor, size: tuple[int, int]) -> Tensor:
    """The image at another size by averages, as with `interpolate` in the mode "area"; a side of 1 is there twice.

    torch.export would otherwise fix whether a side is 1, which it is for very long images.
    """
    rows, columns = (_averages(cells, side, image) for cells, side in zip(size, image.shape[-2:], strict=True))
    return rows @ image @ columns.T


def _averages(cells: int, side: int, like: Tensor) -> Tensor:
    """As `averages`, but with two equal rows in place of a single one."""
    cell = torch.arange(torch.sym_max(2, cells), device=like.device).clamp(max=cells - 1)[:, None]
    place = torch.arange(side, device=like.device)
    first, after = cell * side // cells, ((cell + 1) * side + cells - 1) // cells
    return (((place >= first) & (place < after)) / (after - first)).to(like)
