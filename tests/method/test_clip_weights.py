"""The paper's download of CLIP weights, for real, from a stand-in of the hub: huggingface_hub and open_clip as they are.

Only the sizes of the networks are smaller than OpenAI's; files, names, layout and addresses are the real ones.
"""

import json
import os
import subprocess
import sys

import open_clip
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load, save
from standins import COMMIT, Fault, publish, serving

from cliplit.errors import CliplitError
from cliplit.method import clip_weights
from cliplit.method.clip import load_backbone

SMALL_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VIT = {"embed_dim": 16, "quick_gelu": True, "text_cfg": SMALL_TEXT}
VIT["vision_cfg"] = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
RESNET = {"embed_dim": 16, "quick_gelu": True, "text_cfg": SMALL_TEXT}
RESNET["vision_cfg"] = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
PAPER = {"ViT-B-32-quickgelu/openai": VIT, "RN101-quickgelu/openai": RESNET}
NAME = "ViT-B-32-quickgelu/openai"
FILE = "open_clip_model.safetensors"


def repository(name: str) -> str:
    return open_clip.pretrained.get_pretrained_cfg(*name.split("/"))["hf_hub"].rstrip("/")


def weights(config: dict) -> bytes:
    torch.manual_seed(0)
    return save(open_clip.model.CLIP(**config).state_dict())


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {name: weights(config) for name, config in PAPER.items()}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub's stand-in, an empty cache, and small networks under the paper's names."""
    with serving() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        for name, config in PAPER.items():
            monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name.split("/")[0], config)
        yield server


def kept(tmp_path) -> list[str]:
    """Files left in the cache that could be taken for weights."""
    return [str(path) for path in (tmp_path / "hub").rglob("*") if path.is_file() and path.stat().st_size > 1000]


def refusal(name: str = NAME) -> str:
    with pytest.raises(CliplitError) as error:
        load_backbone(name)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_both_models_of_the_paper_are_downloaded_once_and_loaded(hub, files):
    paths = {name: publish(hub, repository(name), FILE, content) for name, content in files.items()}
    similarity, identity = (load_backbone(name) for name in PAPER)
    assert torch.equal(similarity.clip.visual.proj, load(files[NAME])["visual.proj"])
    activations = identity.encode_activations(torch.rand(1, 3, 40, 40))
    assert identity.pool(activations[-1]).shape == (1, 16) and len(activations) == 5
    hub.requests.clear()
    load_backbone(NAME)
    assert hub.requests == [] and all(hub.asked(path) == [] for path in paths.values())


@pytest.mark.parametrize(
    "name, says",
    [
        (
            "ViT-B-32/openai",
            "CLIP 'ViT-B-32/openai': these weights need QuickGELU, unlike ViT-B-32; use ViT-B-32-quickgelu/openai",
        ),
        ("RN101/openai", "use RN101-quickgelu/openai"),
        ("ViT-B-32/laion400m_e32", "use ViT-B-32-quickgelu/laion400m_e32"),
        ("ViT-B-16/dfn2b", "use ViT-B-16-quickgelu/dfn2b"),
        (
            "ViT-B-32-quickgelu/laion2b_s34b_b79k",
            "these weights need GELU, unlike ViT-B-32-quickgelu; use ViT-B-32/laion2b_s34b_b79k",
        ),
    ],
)
def test_weights_of_another_activation_are_refused_before_anything_is_asked_of_the_hub(hub, files, name, says):
    for each in (name, name.replace("-quickgelu", "")):
        if config := open_clip.pretrained.get_pretrained_cfg(*each.split("/")):
            publish(hub, config["hf_hub"].rstrip("/"), FILE, files[NAME])
    hub.requests.clear()
    assert says in refusal(name) and hub.requests == []
    with pytest.raises(CliplitError, match="these weights need"):
        clip_weights.find_weights(name)
    assert load_backbone(name, random=True).name == name  # no weights, nothing to fit


def test_a_dropped_connection_is_taken_up_where_it_broke(hub, files, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)  # 10 MB, more than these weights have
    path = publish(hub, repository(NAME), FILE, files[NAME])
    hub.faults[path] = [Fault(stop_after=100_000)]
    load_backbone(NAME)
    assert hub.asked(path) == [None, "bytes=100000-"]


def test_weights_in_the_older_format_are_found_too(hub, files, tmp_path):
    torch.save(load(files[NAME]), tmp_path / "weights.bin")
    publish(hub, repository(NAME), "open_clip_pytorch_model.bin", (tmp_path / "weights.bin").read_bytes())
    assert torch.equal(load_backbone(NAME).clip.visual.proj, load(files[NAME])["visual.proj"])


def test_a_file_other_than_promised_is_refused_and_not_kept(hub, files, tmp_path):
    path = publish(hub, repository(NAME), FILE, files[NAME])
    hub.headers[path]["ETag"] = '"' + "f" * 64 + '"'
    assert "is not the file that it has (SHA-256 differs); nothing was kept" in refusal()
    assert kept(tmp_path) == []


def test_a_shorter_file_than_promised_is_refused_and_not_kept(hub, files, tmp_path):
    path = publish(hub, repository(NAME), FILE, files[NAME])
    hub.headers[path]["X-Linked-Size"] = str(len(files[NAME]) + 5)
    line = refusal()
    assert f"{hub.url} can be reached, but the download failed (Consistency check failed" in line
    assert kept(tmp_path) == []


@pytest.mark.parametrize("kind", ["garbage", "truncated", "another model"])
def test_the_hub_itself_has_a_wrong_file(hub, files, kind):
    wrong = {"garbage": b"0" * 5000, "truncated": files[NAME][:-4000], "another model": files["RN101-quickgelu/openai"]}
    publish(hub, repository(NAME), FILE, wrong[kind])
    line = refusal()
    assert "not the weights of CLIP 'ViT-B-32-quickgelu'" in line
    os.remove(line.split("remove ")[1].split(" to download it again")[0])  # as the line says
    publish(hub, repository(NAME), FILE, files[NAME])
    assert load_backbone(NAME).size == 32


def test_refusals_are_told_apart_from_no_network(hub, files):
    hub.files["/"] = b"the hub"
    assert f"{hub.url} has no {FILE} or open_clip_pytorch_model.bin" in refusal()
    path = publish(hub, repository(NAME), FILE, files[NAME])
    hub.headers[path]["X-Repo-Commit"] = ""  # something else than the hub
    assert "can be reached, but the download failed" in refusal() and "X-Repo-Commit" in refusal()
    hub.headers[path]["X-Repo-Commit"] = COMMIT
    hub.faults[path] = [Fault(status=403)]
    assert "can be reached, but the download failed (403 Forbidden" in refusal()


def test_no_network_says_where_the_weights_may_be_put(hub, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    line = refusal()
    assert "http://127.0.0.1:9 cannot be reached" in line and str(tmp_path / "hub") in line and "--clip tiny" in line


COMMAND = """
import json, sys, open_clip, cliplit.cli.app
for name, config in json.loads(sys.argv.pop()).items():
    open_clip.factory._MODEL_CONFIGS[name.split("/")[0]] = config
cliplit.cli.app.main()
"""


def test_the_command_line_downloads_what_the_profile_paper_asks_for(files, tmp_path):
    """In a process of its own: HF_ENDPOINT and HF_HOME as a user sets them."""
    short = {"prompts.iterations": 1, "prompts.batch_size": 1, "prompts.size": 32, "data.train_size": 32}
    short |= {"data.embedded_images": 1, "data.embedded_pairs": 1, "evaluation.control": False}
    short |= {"prompts.views_per_image": 1}
    short |= {"enhancement.warmup_iterations": 1, "enhancement.iterations": 1, "enhancement.batch_size": 1}
    short |= {"enhancement.extend_above": "inf", "refinement.rounds": 0, "evaluation.metrics": "entropy"}
    changes = [part for name, value in short.items() for part in ("--set", f"{name}={value}")]
    with serving() as server:
        paths = [publish(server, repository(name), FILE, content) for name, content in files.items()]
        environment = os.environ | {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")}
        command = ["train", "--profile", "paper", "--device", "cpu", "--run", str(tmp_path / "run"), *changes]
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *command, json.dumps(PAPER)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert all(server.asked(path) == [None] for path in paths) and "initial" in done.stdout
