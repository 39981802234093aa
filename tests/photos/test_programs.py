"""The network as ONNX and by torch.export: any size, our own numbers, and runs without us."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from cliplit.files.tensors import to_tensor
from cliplit.method.checkpoints import load_enhancer, save_enhancer
from cliplit.method.enhancer import Enhancer
from cliplit.profiles import SMOKE
from cliplit_photos import programs
from cliplit_photos.inference import SHIPPED_ENHANCER

STEP = 1 / 255
FILTERED = 4 * STEP  # the program also filters pictures smaller than the working size
SIZES = ((217, 331), (131, 8), (402, 263), (9, 2001), (1500, 8), (8, 8))
DOCS = Path(__file__).parents[2] / "docs" / "export.md"
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; exec(open(sys.argv[0]).read())"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return programs.export_program(SHIPPED_ENHANCER, tmp_path_factory.mktemp("exported") / "enhancer.onnx")


@torch.no_grad()
def test_onnx_gives_our_results_at_odd_sizes(exported):
    session = onnxruntime.InferenceSession(exported)
    network = load_enhancer(SHIPPED_ENHANCER)
    torch.manual_seed(0)
    for size in SIZES:
        image = torch.rand(1, 3, *size)
        result = torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
        tolerance = STEP if max(size) > network.architecture["longer_side"] else FILTERED
        assert result.shape == image.shape and (result - network.enhance(image)).abs().max() < tolerance
    model = onnx.load(exported)
    notes = json.loads({entry.key: entry.value for entry in model.metadata_props}["cliplit"])
    assert notes["checkpoint"]["kind"] == "enhancer" and model.opset_import[0].version == programs.OPSET


def test_the_example_in_the_docs_needs_no_torch(exported, tmp_path):
    example = re.search(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[1]
    (tmp_path / "example.py").write_text(example)
    pixels = np.random.default_rng(0).integers(0, 256, (150, 233, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    files = [tmp_path / name for name in ("example.py", "photo.png", "result.png")]
    command = [sys.executable, "-c", WITHOUT_TORCH, files[0], exported, *files[1:]]
    subprocess.run(command, check=True)
    with torch.no_grad():
        ours = load_enhancer(SHIPPED_ENHANCER).enhance(to_tensor(pixels)[None])[0]
    result = to_tensor(np.asarray(Image.open(files[2])))
    assert len(example.splitlines()) <= 20 and (result - ours).abs().max() < 1.6 * STEP  # both are rounded


@pytest.mark.parametrize("changes", [{"downscale": 2}, {"longer_side": 64, "downscale": 2}])
def test_torch_export_takes_other_kinds_of_networks(tmp_path, changes):
    file = tmp_path / "network.safetensors"
    network = Enhancer(8, max_illumination=2.0, keep_highlights=True, **changes).initialize(1, 0.2)
    save_enhancer(network, file, SMOKE, "enhancer0", 1)
    notes = {"notes.json": ""}
    program = torch.export.load(programs.export_program(file, tmp_path / "network.pt2"), extra_files=notes).module()
    for size in SIZES:
        if "longer_side" in changes and max(size) < 64:
            continue  # smaller than the working size: filtered along edges, too
        image = torch.rand(1, 3, *size)
        assert np.abs(program(image).numpy() - network.enhance(image).detach().numpy()).max() < STEP, size
    assert json.loads(notes["notes.json"])["checkpoint"]["stage"] == "enhancer0"


def test_what_cannot_be_exported_is_refused_and_nothing_is_left(cli, checkpoint, tmp_path, monkeypatch):
    code, _, err = cli("export", SHIPPED_ENHANCER, tmp_path / "enhancer.tflite")
    assert code == 2 and err == [f"cliplit: error: {tmp_path}/enhancer.tflite: unknown ending; use .pth, .onnx or .pt2"]
    monkeypatch.setattr(torch.export, "export", lambda *given, **options: None)  # takes seconds
    monkeypatch.setattr(programs, "_pt2", lambda exported, notes: (b"", torch.zeros_like))
    code, _, err = cli("export", checkpoint, tmp_path / "enhancer.pt2")
    assert code == 2 and "results differ" in err[-1] and not list(tmp_path.iterdir())
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "onnx" else find(name, *more))
    code, _, err = cli("export", SHIPPED_ENHANCER, tmp_path / "enhancer.onnx")
    assert code == 2 and "cliplit[onnx]" in err[-1]
