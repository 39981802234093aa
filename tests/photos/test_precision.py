"""bf16 where the processor has none: said once, computed in fp32, and that is what the ledger has."""

import numpy as np
import pytest
import torch
from photo_files import picture

import cliplit
from cliplit.engine.compute import usable_precision
from cliplit.method.checkpoints import load_enhancer

NOTE = "bf16: this cpu has no bfloat16 and would emulate it slowly; computing in fp32"


@pytest.fixture(autouse=True)
def old_processor(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True})
    usable_precision.cache_clear()
    yield
    usable_precision.cache_clear()


def test_enhance_says_it_and_results_of_fp32_are_done_before(enhance, tmp_path):
    picture(tmp_path / "photos" / "a.png")
    command = (tmp_path / "photos", "-o", tmp_path / "out")
    code, _, err = enhance(*command, "--precision", "bf16")
    assert code == 0 and err.count(NOTE) == 1
    result = (tmp_path / "out" / "a.png").read_bytes()
    for precision in ("fp32", "bf16"):
        code, _, err = enhance(*command, "--precision", precision)
        assert code == 0 and err[-1].endswith("already done")
    assert (tmp_path / "out" / "a.png").read_bytes() == result


def test_in_python_it_is_said_once_and_equals_fp32(checkpoint, capsys):
    network = load_enhancer(checkpoint)
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    reduced = [cliplit.enhance(image, network, precision="bf16") for _ in range(2)]
    assert all(np.array_equal(result, cliplit.enhance(image, network)) for result in reduced)
    assert capsys.readouterr().err.splitlines() == [NOTE]
