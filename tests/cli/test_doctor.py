"""The doctor: right about every line, and able to mend what a download mends."""

import hashlib
import time

import pytest
from standins import publish, serving

from cliplit.cli import doctor
from cliplit.errors import CliplitError
from cliplit.scoring import metrics, weights

LONGEST = 10.0  # seconds, from the issue; here without starting Python
MAT = "niqe_modelparameters.mat"
REPOSITORY = "chaofengc/IQA-PyTorch-Weights"


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(doctor, "reachable", lambda address: False)
    return tmp_path


def findings(**options) -> dict[str, doctor.Check]:
    return {found.name: found for found in doctor.examine(**options)}


def test_every_line_is_true_offline(offline, cli):
    began = time.monotonic()
    code, out, _ = cli("doctor")
    assert code == 0 and time.monotonic() - began < LONGEST and out[-1] == "the demo can run: make demo"
    found = findings()
    assert found["tiny"].ready and not found["RN101-quickgelu/openai"].ready
    assert [line.split()[:3] for line in out[:-2]] == [
        [one.group, one.name, "ok" if one.ready else "-"] for one in found.values()
    ]
    assert {"onnxruntime", "rawpy", "gdown"} <= {name for name, one in found.items() if one.group == "extra"}
    assert found["gdown"].ready or found["gdown"].fix == "pip install 'cliplit[drive]'"
    meter = metrics.Meter([name for name in doctor.LOOKED_FOR if found[name].ready])
    assert not meter.failed  # what is called ready can be built
    assert {name for name in doctor.LOOKED_FOR if not found[name].ready} == set(doctor.LOOKED_FOR) - {
        *("psnr", "ssim", "piqe", "entropy")
    }


def test_weights_that_were_put_in_place_are_seen(offline):
    assert not findings()["niqe"].ready
    place = offline / "torch" / "hub" / "pyiqa" / MAT
    place.parent.mkdir(parents=True)
    place.write_bytes(b"numbers")
    assert findings()["niqe"].ready


def test_a_clip_that_does_not_fit_its_weights_is_told(offline, cli):
    code, out, _ = cli("doctor", "--clip", "ViT-B-32/openai", "--clip", "ViT-B-32/opanai")
    lines = {line.split()[1]: line for line in out if line.startswith("CLIP")}
    assert code == 0 and lines["ViT-B-32/openai"].endswith("use ViT-B-32-quickgelu/openai")
    assert lines["ViT-B-32/opanai"].endswith("did you mean 'openai'?")


def test_a_demo_that_cannot_run_is_an_error(offline, cli, monkeypatch):
    monkeypatch.setitem(doctor.EMBEDDED, "tiny", offline / "missing.safetensors")
    code, out, _ = cli("doctor")
    assert code == 2 and out[-1] == "the demo cannot run"


def test_missing_weights_are_fetched_and_checked(tmp_path, monkeypatch):
    content = b"statistics of natural images"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with serving() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        path = publish(server, REPOSITORY, MAT, content)
        server.headers[path]["X-Linked-Etag"] = f'"{hashlib.sha256(content).hexdigest()}"'
        (fetched,) = weights.fetch_weights("niqe")
        assert fetched.read_bytes() == content and not weights.missing_files("niqe")
        fetched.unlink()
        server.headers[path]["X-Linked-Etag"] = f'"{"0" * 64}"'
        with pytest.raises(CliplitError, match="metric 'niqe'"):
            weights.fetch_weights("niqe")
        assert weights.missing_files("niqe") and not list(fetched.parent.glob(f"{MAT}*"))
