"""CLIP backbones by name: tiny, files, folders, random weights, and one line where weights cannot be had."""

import json

import pytest
import torch
from golden_models import TEXT, golden_numbers, vit_backbone
from huggingface_hub import constants
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_clip_weights import VIT

from cliplit.data import demo_images
from cliplit.data.relight import expose
from cliplit.errors import CliplitError
from cliplit.method import clip as clip_module
from cliplit.method import clip_weights
from cliplit.method.checkpoints import read_metadata
from cliplit.method.clip import known_by, load_backbone
from cliplit.method.clip_weights import EMBEDDED, has_resnet
from cliplit.method.losses import backlit_scores
from cliplit.profiles import PROFILES

EXACT_TOLERANCE = 1e-5  # other lengths take other kernels
IMAGES = torch.rand(2, 3, 40, 52, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def tiny():
    return load_backbone("tiny")


def test_tiny_serves_both_losses(tiny):
    activations = tiny.encode_activations(IMAGES)
    assert has_resnet("tiny") and len(activations) == 5
    features = tiny.pool(activations[-1])
    torch.testing.assert_close(features, tiny.encode_image(IMAGES))
    assert features.shape[-1] == tiny.encode_text("a backlit photo").shape[-1]
    assert not any(p.requires_grad for p in tiny.parameters()) and not tiny.clip.training


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_embedded_ones_are_small_and_say_what_they_were_trained_on(name):
    assert EMBEDDED[name].stat().st_size < 5_000_000
    with safe_open(EMBEDDED[name], "pt") as file:
        metadata = file.metadata()
    assert read_metadata(EMBEDDED[name])["license"] == "MIT"
    assert metadata["training_data"] and json.loads(metadata["settings"]) and json.loads(metadata["evaluation"])


def test_tiny2_knows_how_far_the_light_is_off():
    clip = load_backbone("tiny2")
    photos = demo_images.test_pairs(PROFILES["smoke"])[1]
    texts = torch.cat([clip.encode_text(text) for text in ("a backlit photo", "a well lit photo")])
    stops = (-4.0, -2.0, 0.0, 1.5)  # the first two differ less than photos do
    scores = [
        backlit_scores(clip.encode_image(expose(photos, stop)), texts, PROFILES["photos"].clip.softmax_scale).mean()
        for stop in stops
    ]
    assert min(scores[0], scores[1], scores[3]) > scores[2] + 0.1


def test_tiny_by_path_is_the_same_model(tiny):
    assert torch.equal(load_backbone(str(EMBEDDED["tiny"])).encode_image(IMAGES), tiny.encode_image(IMAGES))


def test_only_the_positions_up_to_the_end_matter():
    clip, embedding = vit_backbone(), golden_numbers()["prompt.embedding"]
    other = embedding.clone()
    other[:, 18:] = 1.0
    assert torch.equal(clip.encode_prompts(embedding, 17), clip.encode_prompts(other, 17))
    ids, _ = clip.tokenize("a well-lit photo")
    torch.testing.assert_close(
        clip.encode_text("a well-lit photo"), clip.clip.encode_text(ids), rtol=0, atol=EXACT_TOLERANCE
    )


def test_random_weights_are_seeded_and_leave_the_global_generator_alone(tiny):
    state = torch.get_rng_state()
    one, same, other = (load_backbone("tiny", random=True, seed=seed).encode_image(IMAGES) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(one, same) and not torch.equal(one, other) and not torch.equal(one, tiny.encode_image(IMAGES))


def make_folder(folder):
    """A CLIP in the hub's layout, as open_clip writes it."""
    vision = {"image_size": 64, "layers": 1, "width": 64, "head_width": 64, "patch_size": 32}
    config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": TEXT | {"layers": 1}}
    import open_clip

    clip = open_clip.model.CLIP(**config)
    folder.mkdir()
    save_file(clip.state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    return clip


def test_a_folder_in_the_hubs_layout(tmp_path):
    clip = make_folder(tmp_path / "clip")
    loaded = load_backbone(str(tmp_path / "clip"))
    assert torch.equal(loaded.mean.flatten(), torch.tensor([0.5] * 3)) and loaded.size == 64
    assert torch.equal(loaded.clip.visual.proj, clip.visual.proj)
    assert not has_resnet(str(tmp_path / "clip"))
    with pytest.raises(CliplitError, match="no ResNet tower"):
        loaded.encode_activations(IMAGES)


def test_a_folder_with_weights_of_another_model(tmp_path):
    make_folder(tmp_path / "clip")
    save_file({"a": torch.zeros(1)}, tmp_path / "clip" / "open_clip_model.safetensors")
    with pytest.raises(CliplitError, match="not a CLIP that open_clip can load"):
        load_backbone(str(tmp_path / "clip"))


@pytest.mark.parametrize("content", ["", "[]", "{", '{"model_cfg": 3}', '{"model_cfg": {"vision_cfg": [3]}}'])
def test_a_folder_with_a_damaged_description(tmp_path, content):
    make_folder(tmp_path / "clip")
    (tmp_path / "clip" / "open_clip_config.json").write_text(content)
    for look in (load_backbone, clip_weights.find_weights, clip_weights.has_resnet):
        with pytest.raises(CliplitError, match="no readable open_clip_config.json") as error:
            look(str(tmp_path / "clip"))
        assert str(tmp_path / "clip") in str(error.value)


@pytest.mark.parametrize("change", ["size", "config", "preprocess", "tensors"])
def test_a_damaged_file_of_a_clip_is_named(tmp_path, change):
    path = tmp_path / "clip.safetensors"
    whole = EMBEDDED["tiny"].read_bytes()
    with safe_open(EMBEDDED["tiny"], "pt") as file:
        notes = file.metadata()
    tensors = load_file(EMBEDDED["tiny"])
    changed = {"config": {"model_cfg": '{"vision_cfg": {}}'}, "preprocess": {"preprocess": "[]"}}
    if change == "tensors":
        del tensors["token_embedding.rows"]
    save_file(tensors, path, notes | changed.get(change, {}))
    if change == "size":
        path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CliplitError) as error:
        load_backbone(str(path))
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_weights_of_an_open_clip_model_from_a_file(tmp_path, monkeypatch):
    import open_clip

    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32-quickgelu", VIT)  # a small one
    state = open_clip.create_model("ViT-B-32-quickgelu").state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    loaded = load_backbone(f"ViT-B-32-quickgelu/{tmp_path}/weights.safetensors")
    assert torch.equal(loaded.clip.visual.proj, state["visual.proj"])
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    with pytest.raises(CliplitError, match="bad.pt: not the weights of CLIP 'ViT-B-32-quickgelu'"):
        load_backbone(f"ViT-B-32-quickgelu/{tmp_path}/bad.pt")


@pytest.mark.parametrize(
    "name, words",
    [
        ("nothing", "'nothing' is unknown: not a file or folder, nor MODEL/TAG"),
        ("ViT-Z/openai", "is unknown"),
        ("ViT-B-32/nowhere", "'nowhere' is neither a file nor a tag of ViT-B-32 .tags: openai"),
    ],
)
def test_unknown_names(name, words):
    with pytest.raises(CliplitError, match=words):
        load_backbone(name)


def test_weights_that_cannot_be_had_end_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(clip_weights, "reachable", lambda url: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CliplitError) as error:
        load_backbone("ViT-B-32-quickgelu/openai")
    line = str(error.value)
    assert "\n" not in line and all(
        word in line for word in ("timm/", "cannot be reached", "--clip tiny", "--random-clip")
    )


def test_an_unreachable_address_is_found_out_quickly():
    assert not clip_weights.reachable("http://127.0.0.1:9")


def test_another_model_under_a_known_name_is_refused(tmp_path, monkeypatch, cli):
    known = json.loads(clip_module.KNOWN.read_text())
    assert known.keys() == clip_weights.EMBEDDED.keys()
    for name, expected in known.items():  # another processor rounds otherwise
        assert known_by(load_backbone(name, known=False)) == pytest.approx(expected, abs=clip_module.KNOWN_TOLERANCE)
    monkeypatch.setattr(clip_module, "KNOWN", tmp_path / "known.json")
    (tmp_path / "known.json").write_text(json.dumps({"tiny": known["tiny2"]}))
    with pytest.raises(CliplitError, match="'tiny': not the model of that name"):
        load_backbone("tiny")
    load_backbone("tiny", random=True)
    code, out, _ = cli("doctor")
    found = {line.split()[1]: line for line in out if line.startswith("CLIP")}
    assert code and found["tiny"].split()[2] == "-" and "not the model of that name" in found["tiny"]
    assert found["tiny2"].split()[2] == "ok"
