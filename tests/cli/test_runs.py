"""The command line: settings from options, one line and exit code 2 for anything wrong, export and inspect."""

import shutil
import socket
import time

import pytest
import torch
from conftest import builds
from huggingface_hub import constants
from PIL import Image

import cliplit
from cliplit.cli.runs import open_run
from cliplit.data import demo_images
from cliplit.files import web
from cliplit.files.atomic import read_json
from cliplit.method import clip_weights
from cliplit.method.checkpoints import save_enhancer, save_guidance
from cliplit.method.clip import load_backbone
from cliplit.method.enhancer import Enhancer
from cliplit.method.guidance.registry import new_guidance
from cliplit.method.run import Run
from cliplit.method.run_images import prepare_data
from cliplit.profiles import PROFILES, SMOKE
from cliplit.settings import PHOTOS, describe


def write_images(folder, count=4, size=70, names="{:02}.jpg"):
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        Image.effect_noise((size, size), 60).convert("RGB").save(folder / names.format(n))
    return folder


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture
def folders(tmp_path):
    """Own images: backlit, well-lit, test, references."""
    return {name: write_images(tmp_path / name) for name in ("backlit", "well-lit", "test-backlit", "test-reference")}


def options(folders) -> list[str]:
    return [part for name, folder in folders.items() for part in (f"--{name}", str(folder))]


@pytest.fixture(params=["train", "reproduce"])
def refused(request, cli, tmp_path):
    """The line with which both commands refuse options."""

    def call(*arguments) -> str:
        code, out, err = cli(request.param, "--profile", "smoke", "--run", tmp_path / "run", *arguments)
        assert code == 2 and out == []
        line = err[-1]  # before it, `reproduce` may have shown its progress bar
        assert line.startswith("cliplit: error: ") and not any("Traceback" in shown for shown in err)
        assert request.param == "reproduce" or err == [line]
        return line

    return call


def test_help_version_and_usage_errors(cli):
    assert cli("--version") == (0, [f"cliplit {cliplit.__version__}"], [])
    code, out, _ = cli("reproduce", "--help")
    assert code == 0 and {"--profile", "--run", "--clip", "--backlit", "--set", "--rebuild"} <= set(
        " ".join(out).split()
    )
    assert cli("frobnicate")[0] == cli("train", "--frobnicate")[0] == cli("train", "--seed", "x")[0] == 2


def test_options_become_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes = ["enhancement.iterations=7", "data.skip_bad=false"]
    given = {"seed": 5, "device": "cpu", "random_clip": True, "backlit": "dark", "skip_bad": True}
    run = open_run(profile="smoke", run="here", clip="tiny", changes=changes, **given)
    settings = run.settings
    assert (settings.seed, settings.device, settings.clip.random, settings.enhancement.iterations) == (
        5,
        "cpu",
        True,
        7,
    )
    assert settings.data.backlit == str(tmp_path / "dark") and settings.data.skip_bad is False
    assert not (tmp_path / "here").exists()


def test_a_folder_that_is_spelled_otherwise_is_the_same_and_another_one_is_not(cli, folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    quick = ["--set", "evaluation.control=false", "--set", "refinement.rounds=0", "--set", "evaluation.metrics=psnr"]
    sides = ["--set", "data.backlit=backlit", "--well-lit", "link/well-lit/"]
    assert cli("train", "--profile", "smoke", "--run", "run", *sides, *quick)[0] == 0
    stored = Run.open("run").settings.data
    assert (stored.backlit, stored.well_lit) == (str(tmp_path / "backlit"), str(tmp_path / "link" / "well-lit"))
    made = builds(Run.open("run"))
    same = ("--backlit", "./link/backlit/", "--set", f"data.well_lit={tmp_path}/well-lit")
    assert cli("train", "--run", "./run/", *same)[0] == 0
    assert Run.open("run").settings.data == stored and builds(Run.open("run")) == made
    code, _, err = cli("train", "--run", "run", "--backlit", "test-backlit")
    assert code == 2 and f"data.backlit {tmp_path}/backlit -> {tmp_path}/test-backlit" in err[-1]
    code, _, err = cli("plan", "--run", "run", "--seed", 1)
    assert code == 2 and "this run has other settings (seed 0 -> 1)" in err[-1]


@pytest.mark.parametrize("option", ["--backlit", "--data", "--checkpoint", "--device"])
def test_an_empty_argument_is_refused(cli, tmp_path, option):
    code, _, err = cli("train", "--profile", "smoke", "--run", tmp_path / "run", option, "")
    assert code == 2 and err == [f"cliplit: error: {option}: the value is empty; give one, or leave the option out"]
    code, _, err = cli("score", "", tmp_path)
    assert code == 2 and err == ["cliplit: error: '': an argument is empty; give a file or a folder"]


def test_embedded_photos_are_checked_before_anything_is_written(refused, tmp_path):
    assert PHOTOS.split(" | ") == sorted(demo_images.PHOTOS)
    assert "must be astronaut, chelsea" in refused("--set", "data.embedded_well_lit=foo")
    assert not (tmp_path / "run").exists()


def test_a_rebuild_without_the_images_that_it_needs_changes_nothing(cli, folders, tmp_path):
    run = tmp_path / "run"
    quick = ["--set", "evaluation.control=false", "--set", "refinement.rounds=0", "--set", "evaluation.metrics=psnr"]
    assert cli("train", "--profile", "smoke", "--run", run, *options(folders), *quick)[0] == 0
    before = (run / "manifest.json").read_bytes()
    folders["backlit"].rename(tmp_path / "away")
    code, _, err = cli("train", "--run", run, "--set", "data.train_size=32", "--rebuild")
    assert code == 2 and err == [f"cliplit: error: {folders['backlit']}: no such folder"]
    assert (run / "manifest.json").read_bytes() == before
    assert cli("train", "--run", run, "--set", "enhancement.iterations=5", "--rebuild")[0] == 0


def test_one_clip_serves_both_losses_if_it_has_a_resnet(tmp_path):
    assert open_run(profile="paper", clip="tiny").settings.clip.identity == "tiny"
    assert open_run(profile="paper", clip="tiny", identity_clip="RN50/openai").settings.clip.identity == "RN50/openai"
    assert open_run(profile="paper", clip="ViT-B-32/openai").settings.clip.identity == "RN101-quickgelu/openai"


def test_a_clip_file_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip_weights.EMBEDDED["tiny"], tmp_path / "mine.safetensors")
    assert open_run(clip="mine.safetensors").settings.clip.similarity == str(tmp_path / "mine.safetensors")
    name = open_run(clip="ViT-B-32/mine.safetensors").settings.clip.similarity
    assert name == f"ViT-B-32/{tmp_path}/mine.safetensors"


def test_unknown_settings_and_wrong_types(refused):
    line = refused("--set", "enhancement.iteration=3")
    assert line.endswith(
        "'enhancement.iteration'; did you mean 'enhancement.iterations'? (`cliplit settings` lists them)"
    )
    assert "is of type int, got 'many'" in refused("--set", "prompts.iterations=many")
    assert "is not of the form NAME=VALUE" in refused("--set", "prompts.iterations")
    assert "unknown profile 'domo'; valid: demo, photos, smoke, paper" in refused("--profile", "domo")
    assert "device 'toaster' cannot be used here" in refused("--device", "toaster")


def test_names_that_are_nearly_right(cli, refused, tmp_path):
    assert refused("--profile", "dmo").endswith("did you mean 'demo'?")
    assert refused("--set", "guidance.kind=clip-lt").endswith("did you mean 'clip-lit'?")
    assert refused("--clip", "ViT-B-32-quickgelu/openia").endswith("did you mean 'openai'?")
    assert refused("--clip", "VitB-32-quickgelu/openai").endswith("did you mean 'ViT-B-32-quickgelu/openai'?")
    assert refused("--set", "evaluation.baselines=histeqq").endswith("did you mean 'histeq'?")
    code, _, err = cli("study", "ablation_promts", "--profile", "smoke", "--run", tmp_path / "run")
    assert code == 2 and err[-1].endswith("did you mean 'ablation_prompts'?")


def test_bad_folders(refused, folders, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").write_text("no image")
    for bad in ("empty", "text"):
        assert f"{tmp_path / bad}: no images here" in refused(*options(folders | {"backlit": tmp_path / bad}))
    assert "no such folder" in refused(*options(folders | {"test-backlit": tmp_path / "none"}))
    assert "go together" in refused("--backlit", folders["backlit"])
    assert not (tmp_path / "run").exists()


def test_references_that_do_not_match(refused, folders):
    (folders["test-reference"] / "00.jpg").rename(folders["test-reference"] / "zero.jpg")
    assert "do not match by stem: 1 without partner" in refused(*options(folders))


def test_a_truncated_training_image_is_refused(cli, folders, tmp_path):
    truncate(folders["backlit"] / "01.jpg")
    code, _, err = cli("train", "--profile", "smoke", "--run", tmp_path / "run", *options(folders))
    assert code == 2 and str(folders["backlit"] / "01.jpg") in err[-1] and "--skip-bad" in err[-1]


def test_bad_images_are_skipped_named_and_counted(cli, folders, tmp_path):
    bad = [folders["well-lit"] / "01.jpg", folders["test-backlit"] / "02.jpg"]
    for path in bad:
        truncate(path)
    quick = ["--set", "evaluation.control=false", "--set", "refinement.rounds=0", "--skip-bad"]
    code, out, err = cli("train", "--profile", "smoke", "--run", tmp_path / "run", *options(folders), *quick)
    assert code == 0 and "images skipped: 2" in err
    assert all(any(str(path) in line for line in err) for path in bad)
    assert read_json(tmp_path / "run" / "evaluation" / "evaluation.json")["images"] == 3
    assert any("initial" in line for line in out)


def test_weights_that_cannot_be_had_end_before_anything_starts(refused, monkeypatch, tmp_path):
    monkeypatch.setattr(clip_weights, "reachable", lambda url: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    line = refused("--clip", "ViT-B-32-quickgelu/openai")
    assert "ViT-B-32-quickgelu/openai" in line and "--clip tiny" in line and "--random-clip" in line
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_run_is_left_alone(refused, tmp_path):
    (tmp_path / "run" / "data").mkdir(parents=True)
    assert "neither empty nor a run" in refused()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["data"]


def test_a_run_of_another_profile_is_left_alone(refused, cli, tmp_path):
    run = Run.start(tmp_path / "run", SMOKE)
    prepare_data(run)
    before = run.path.joinpath("manifest.json").read_bytes()
    assert "this run has other settings (profile smoke -> demo, " in refused("--profile", "demo")
    assert "--rebuild" in refused("--profile", "demo")
    assert (tmp_path / "run" / "manifest.json").read_bytes() == before


def test_settings_shows_the_papers_values(cli):
    code, out, _ = cli("settings", "--profile", "demo", "--set", "prompts.iterations=8000")
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in out if not line.startswith(" ")}
    assert code == 0 and rows["clip.similarity"].startswith("tiny2 (paper: ViT-B-32-quickgelu/openai); CLIP of")
    assert rows["prompts.iterations"].startswith("8000 iterations; 0: the initial pair stays unchanged; allowed: 0")
    assert any(line.strip() == "or more [code]" for line in out)


@pytest.mark.parametrize("name", PROFILES)
def test_settings_fit_a_terminal_and_leave_nothing_out(cli, name):
    code, out, _ = cli("settings", "--profile", name)
    text = " ".join(line.strip() for line in out)
    assert code == 0 and max(map(len, out)) <= 100
    for row in describe(PROFILES[name]):
        assert all(
            part in text for part in (row["name"], row.get("about", ""), row.get("unit", ""), row.get("source", ""))
        )


def test_tables_of_several_seeds(cli, reproduced, tmp_path):
    path, other = reproduced.run.path, tmp_path / "other"
    assert cli("train", "--profile", "smoke", "--seed", 1, "--run", other)[0] == 0
    code, out, _ = cli("tables", "--run", path, "--run", other, "--output", tmp_path / "tables")
    header = (tmp_path / "tables" / "stages.csv").read_text().splitlines()[0]
    assert code == 0 and str(tmp_path / "tables" / "stages.csv") in out
    assert header.startswith("stage,psnr,psnr_std") and "psnr_seed_std" in header
    refused = cli("tables", "--run", path, "--run", path)
    assert refused[0] == 2 and "the same seed" in refused[2][-1]
    shown = cli("tables", "--run", tmp_path)
    assert shown[0] == 2 and "no run here" in shown[2][0]


def test_inspect_and_export(cli, tmp_path):
    checkpoint = tmp_path / "a.safetensors"
    save_enhancer(Enhancer(), checkpoint, SMOKE, "enhancer0", 12)
    rows = dict(line.split(maxsplit=1) for line in cli("inspect", checkpoint)[1])
    assert (rows["stage"], rows["iteration"], rows["profile"]) == ("enhancer0", "12", "smoke")
    assert cli("export", checkpoint, tmp_path / "out.pth")[0] == 0
    assert "module.cond1.weight" in torch.load(tmp_path / "out.pth", weights_only=True)
    code, out, _ = cli("inspect", tmp_path / "out.pth")
    assert code == 0 and out[0].startswith("released format")


def test_inspect_prompts(cli, tmp_path):
    guidance = new_guidance(SMOKE, load_backbone("tiny"))
    save_guidance(guidance, tmp_path / "p.safetensors", SMOKE, "prompts1", 3)
    assert "prompts1" in " ".join(cli("inspect", tmp_path / "p.safetensors")[1])
    cli("export", tmp_path / "p.safetensors", tmp_path / "p.pth")
    code, out, _ = cli("inspect", tmp_path / "p.pth")
    assert code == 0 and str(tuple(guidance.embedding_prompt.shape)) in out[0]


@pytest.mark.parametrize("command", ["inspect", "export"])
def test_wrong_checkpoints(cli, tmp_path, command):
    torch.save({"something": torch.zeros(1)}, tmp_path / "foreign.pth")
    (tmp_path / "garbage.safetensors").write_bytes(b"\0" * 40)
    for name in ("foreign.pth", "garbage.safetensors", "missing.pth"):
        output = [tmp_path / "out.pth"] if command == "export" else []
        code, out, err = cli(command, tmp_path / name, *output)
        assert (code, out, len(err)) == (2, [], 1) and str(tmp_path / name) in err[0]
    assert not (tmp_path / "out.pth").exists()


def test_an_unwritable_place_is_one_line(cli, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = cli("train", "--profile", "smoke", "--run", tmp_path / "file" / "run")
    assert code == 2 and len(err) == 1 and "cannot write a run here" in err[0]


def test_an_unanswered_name_server_does_not_hold_things_up(monkeypatch):
    def silent(*_, **__):
        time.sleep(5)
        raise OSError("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    monkeypatch.setattr(web, "REACH_TIMEOUT", 0.2)
    began = time.monotonic()
    assert not web.reachable("https://huggingface.co") and time.monotonic() - began < 4
