"""Checkpoints both ways: ours with everything inside, the released formats with and without prefix."""

import errno
import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

import cliplit
from cliplit.errors import CliplitError
from cliplit.method.checkpoints import (
    export_released,
    load_enhancer,
    load_prompts,
    read_metadata,
    save_enhancer,
    save_guidance,
)
from cliplit.method.clip import load_backbone
from cliplit.method.enhancer import Enhancer
from cliplit.method.guidance.registry import new_guidance
from cliplit.profiles import SMOKE, profile
from cliplit.settings import from_json

IMAGES = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def ours(tmp_path):
    network = Enhancer().initialize(3)
    save_enhancer(network, tmp_path / "ours.safetensors", SMOKE, "enhancer0", 7)
    return network, tmp_path / "ours.safetensors"


def test_ours_keeps_architecture_settings_stage_iteration_version(tmp_path):
    network = Enhancer(8, 2, 1.2, keep_highlights=True).initialize(0)
    save_enhancer(network, tmp_path / "a.safetensors", SMOKE, "enhancer1", 12)
    loaded = load_enhancer(tmp_path / "a.safetensors")
    assert loaded.architecture == network.architecture
    assert torch.equal(loaded.eval()(IMAGES), network.eval()(IMAGES))
    metadata = read_metadata(tmp_path / "a.safetensors")
    assert from_json(metadata["settings"]) == SMOKE
    assert (metadata["stage"], metadata["iteration"], metadata["version"]) == ("enhancer1", "12", cliplit.__version__)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors"]  # no temporary file left


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_released_format_both_ways(ours, tmp_path, prefix):
    network, path = ours
    export_released(path, tmp_path / "released.pth", prefix)
    state = torch.load(tmp_path / "released.pth", weights_only=True)
    assert list(state) == [prefix + key for key in load_file(path)] and prefix + "PPM1.features.0.1.weight" in state
    assert torch.equal(load_enhancer(tmp_path / "released.pth")(IMAGES), network(IMAGES))


def test_export_refuses_a_network_the_released_code_lacks(tmp_path):
    save_enhancer(Enhancer(8), tmp_path / "narrow.safetensors", SMOKE, "enhancer0", 1)
    with pytest.raises(CliplitError, match="released code has no such network"):
        export_released(tmp_path / "narrow.safetensors", tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize("key", ["module.embedding_prompt", "embedding_prompt"])
def test_released_prompt_pair(tmp_path, key):
    embedding = torch.randn(2, 77, 512)
    torch.save({key: embedding}, tmp_path / "prompt.pth")
    prompts = load_prompts(tmp_path / "prompt.pth")
    assert torch.equal(prompts.embedding, embedding) and prompts.end == 17
    guidance = new_guidance(SMOKE, load_backbone("tiny"))
    save_guidance(guidance, tmp_path / "ours.safetensors", SMOKE, "prompts0", 1)
    export_released(tmp_path / "ours.safetensors", tmp_path / "again.pth")
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    assert torch.equal(again["module.embedding_prompt"], guidance.embedding_prompt)


def test_prompt_pair_keeps_its_end_position(tmp_path):
    settings = profile("smoke", {"prompts.initial": ("", ""), "prompts.length": 8})
    save_guidance(new_guidance(settings, load_backbone("tiny")), tmp_path / "p.safetensors", settings, "prompts0", 1)
    assert load_prompts(tmp_path / "p.safetensors").end == 9


class Malicious:
    def __reduce__(self):
        return (print, ("code was run",))


def one_line(error) -> bool:
    return "\n" not in str(error.value)


def bad_files(folder):
    state = Enhancer().state_dict()
    torch.save({"something": torch.zeros(1)}, folder / "foreign.pth")
    torch.save({**state, "cond1.weight": torch.zeros(16, 3, 3, 3)}, folder / "narrow.pth")
    torch.save({"net": "text"}, folder / "text.pth")
    (folder / "garbage.pth").write_bytes(b"not a checkpoint")
    (folder / "empty.pth").write_bytes(b"")
    (folder / "program.onnx").write_bytes(b"\x08\x0a")
    (folder / "code.pth").write_bytes(pickle.dumps(Malicious()))
    (folder / "garbage.safetensors").write_bytes(b"\x00" * 40)
    save_file({"a": torch.zeros(1)}, folder / "foreign.safetensors")
    save_enhancer(Enhancer(8), folder / "whole.safetensors", SMOKE, "enhancer0", 1)
    torch.save(state, folder / "whole.pth")
    for suffix in (".safetensors", ".pth"):
        whole = (folder / f"whole{suffix}").read_bytes()
        for size in (0, 100, len(whole) // 2, len(whole) - 1):
            (folder / f"cut at {size}{suffix}").write_bytes(whole[:size])
        (folder / f"zeros{suffix}").write_bytes(b"\0" * len(whole))
        (folder / f"whole{suffix}").unlink()
        (folder / f"folder{suffix}").mkdir()
    for n, notes in enumerate(
        ("[]", "3", '{"architecture": 3}', '{"architecture": "["}', "{", '{"end": "x"}', '{"end": null}')
    ):
        pair = {"embedding_prompt": torch.zeros(2, 77, 8)}
        save_file({"a": torch.zeros(1)} if n < 5 else pair, folder / f"notes {n}.safetensors", {"cliplit": notes})
    return [*sorted(folder.iterdir()), folder / "missing.pth"]


def test_wrong_files_end_in_one_line_that_names_them(tmp_path, capsys):
    for path in bad_files(tmp_path):
        for load in (load_enhancer, load_prompts):
            with pytest.raises(CliplitError) as error:
                load(path)
            assert str(path) in str(error.value) and one_line(error)
    assert "code was run" not in capsys.readouterr().out


def test_the_line_says_what_differs(tmp_path):
    bad_files(tmp_path)
    with pytest.raises(CliplitError, match=r"cond1.weight: .* torch.Size\(\[16, 3, 3, 3\]\)"):
        load_enhancer(tmp_path / "narrow.pth")
    with pytest.raises(CliplitError, match='Missing key.* "cond1.weight", '):
        load_enhancer(tmp_path / "foreign.pth")
    with pytest.raises(CliplitError, match=r"a folder, not a checkpoint; give the file in it: .*foreign.safetensors"):
        load_enhancer(tmp_path)
    with pytest.raises(CliplitError, match="give the file that it was exported from"):
        load_enhancer(tmp_path / "program.onnx")


@pytest.mark.parametrize(
    "notes",
    ["[]", "null", '{"settings": "{"}', '{"settings": 3}', '{"settings": "[1]"}', '{"settings": "{\\"lustre\\": 1}"}'],
)
def test_damaged_notes_are_one_line_of_inspect(tmp_path, cli, notes):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"cliplit": notes})
    code, out, err = cli("inspect", tmp_path / "a.safetensors")
    assert code == 2 and out == [] and len(err) == 1 and str(tmp_path / "a.safetensors") in err[0]


def test_a_full_disk_leaves_the_older_checkpoint_and_is_named(ours, tmp_path):
    network, path = ours
    before = path.read_bytes()
    path.with_name(f".{path.name}.partial").symlink_to("/dev/full")
    with pytest.raises(OSError) as error:
        save_enhancer(network, path, SMOKE, "enhancer1", 8)
    assert error.value.errno == errno.ENOSPC and error.value.filename == str(path) and path.read_bytes() == before
    (tmp_path / ".out.pth.partial").symlink_to("/dev/full")
    with pytest.raises(OSError) as error:
        export_released(path, tmp_path / "out.pth")
    assert error.value.filename == str(tmp_path / "out.pth") and not (tmp_path / "out.pth").exists()


def test_metadata_is_json(ours):
    assert json.dumps(read_metadata(ours[1]))
