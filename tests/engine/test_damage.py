"""Damaged files of a run: made anew with a note that names them, or refused in one line that does; and full disks."""

import errno
import json
import os
import shutil
import signal

import pytest
import torch

from cliplit.engine.loop import Loop
from cliplit.engine.stages import OWNER, held
from cliplit.errors import CliplitError
from cliplit.files.atomic import finite, read_json, write_json, write_text
from cliplit.files.tensors import save_tensors
from cliplit.method import training
from cliplit.method.run import Run, start_run
from cliplit.method.run_images import prepare_data

SHORT = ["--profile", "smoke", "--set", "evaluation.control=false", "--set", "refinement.rounds=0"]
SHORT += ["--set", "evaluation.metrics=psnr"]


def damages(whole: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "a hundred bytes": whole[:100],
        "half": whole[: len(whole) // 2],
        "garbage": os.urandom(300),
        "text": b"no tensors",
        "zeros": b"\0" * len(whole),
    }


DAMAGES = list(damages(b""))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run up to the first network."""
    overrides = "evaluation.control=false refinement.rounds=0 evaluation.metrics=psnr"
    run = start_run("smoke", tmp_path_factory.mktemp("damaged") / "run", overrides=overrides)
    prepare_data(run), training.initialize_prompts(run), training.warm_up(run)
    return run


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A copy of it, whose warm-up was interrupted after two iterations."""
    shutil.copytree(trained.path, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    shutil.rmtree(run.path / "warmup")
    step = Loop.step

    def interrupted(loop, *arguments, **terms):
        step(loop, *arguments, **terms)
        if loop.at.done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Loop, "step", interrupted)
        training.warm_up(run)
    return run


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_progress_is_named_and_the_stage_starts_anew(run, trained, capsys, damage):
    progress = run.path / "warmup" / "progress.pt"
    progress.write_bytes(damages(progress.read_bytes())[damage])
    training.warm_up(run)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{progress}: ") and line.endswith("; the stage starts over")
    for name in ("enhancer.safetensors", "optimizer.pt", "log.csv"):
        assert (run.path / "warmup" / name).read_bytes() == (trained.path / "warmup" / name).read_bytes()


@pytest.mark.parametrize("content", [[1, 2], None, {"at": 1}, torch.zeros(3)], ids=str)
def test_progress_of_another_kind_starts_anew(run, capsys, content):
    progress = run.path / "warmup" / "progress.pt"
    save_tensors(content, progress)
    training.warm_up(run)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{progress}: ") and line.endswith("; the stage starts over")


@pytest.mark.parametrize(
    "change",
    [
        {"module": {"a": torch.zeros(1)}},
        {"optimizer": {}},
        {"at": {"finished": 1}},
        {"random": torch.zeros(3)},
        {"rows": []},
    ],
    ids=lambda change: next(iter(change)),
)
def test_progress_of_another_training_is_refused_and_kept(run, change):
    progress = run.path / "warmup" / "progress.pt"
    save_tensors(torch.load(progress, weights_only=True) | change, progress)
    before = progress.read_bytes()
    with pytest.raises(CliplitError, match="remove the file, and the stage starts over") as error:
        training.warm_up(run)
    assert str(progress) in str(error.value) and "\n" not in str(error.value) and progress.read_bytes() == before


def test_a_folder_in_place_of_the_progress_is_named(run):
    progress = run.path / "warmup" / "progress.pt"
    progress.unlink()
    progress.mkdir()
    with pytest.raises(OSError, match="there is a folder of this name") as error:
        training.warm_up(run)
    assert str(progress) in str(error.value)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name", ["prompts0/prompts.safetensors", "prompts0/optimizer.pt", "data/data.json", "data/stage.json"]
)
def test_a_damaged_file_of_a_finished_stage_is_named_and_replaced_on_demand(trained, tmp_path, name, damage):
    shutil.copytree(trained.path, tmp_path / "run")
    path = tmp_path / "run" / name
    whole = path.read_bytes()
    damaged = damages(whole)[damage]
    path.write_bytes(damaged)
    with pytest.raises(CliplitError, match=f"{path} is damaged.*--rebuild"):
        Run.start(tmp_path / "run", trained.settings)
    assert path.read_bytes() == damaged
    run = Run.start(tmp_path / "run", trained.settings, rebuild=True)
    assert not run.is_current(path.parent.name)
    prepare_data(run), training.initialize_prompts(run)
    assert run.is_current(path.parent.name) and (path.name == "stage.json" or path.read_bytes() == whole)


def test_the_command_line_names_it_and_replaces_it_on_demand(trained, tmp_path, cli):
    shutil.copytree(trained.path, tmp_path / "run")
    broken = [tmp_path / "run" / "prompts0" / "prompts.safetensors", tmp_path / "run" / "warmup" / "stage.json"]
    for path in broken:
        path.write_bytes(b"\0" * path.stat().st_size)
    code, _, err = cli("train", "--run", tmp_path / "run")
    assert code == 2 and len(err) == 1 and str(broken[0]) in err[0] and "--rebuild" in err[0]
    code, out, err = cli("train", "--run", tmp_path / "run", "--rebuild")
    assert code == 0 and all(any(str(path) in line for line in err) for path in broken)
    assert any("initial" in line for line in out)


RECORDS = [
    "",
    "{",
    "[]",
    "null",
    "3",
    '"text"',
    "{}",
    '{"settings": 3}',
    '{"settings": null, "outputs": []}',
    "[" * 9999,
]


@pytest.mark.parametrize("content", RECORDS)
@pytest.mark.parametrize("name", ["stage.json", "building.json"])
def test_records_of_another_shape_are_no_records(trained, tmp_path, name, content):
    shutil.copytree(trained.path / "data", tmp_path / "run" / "data")
    run = Run(tmp_path / "run", trained.settings)
    record = run.record("data")
    (run.path / "data" / "stage.json").unlink()
    (run.path / "data" / name).write_text(content)
    assert run.finished() == []
    if name == "stage.json":
        with pytest.raises(CliplitError, match="stage.json is damaged"):
            prepare_data(run)
        run.rebuilding = True
    prepare_data(run)
    assert run.record("data").keys() == record.keys() and run.finished() == ["data"]


@pytest.mark.parametrize(
    "key, value", [("outputs", {"data.json": None}), ("outputs", {"data.json": [1]}), ("seconds", "1"), ("needs", [])]
)
def test_a_record_with_wrong_entries_is_out_of_date(trained, tmp_path, key, value):
    shutil.copytree(trained.path / "data", tmp_path / "run" / "data")
    record = tmp_path / "run" / "data" / "stage.json"
    write_json(read_json(record) | {key: value}, record)
    assert not Run(tmp_path / "run", trained.settings).is_current("data")


@pytest.mark.parametrize("content", RECORDS)
def test_a_damaged_manifest_is_written_anew(trained, tmp_path, content, cli):
    shutil.copytree(trained.path, tmp_path / "run")
    manifest = tmp_path / "run" / "manifest.json"
    whole = read_json(manifest)
    manifest.write_text(content)
    code, _, err = cli("tables", "--run", tmp_path / "run")
    assert code == 2 and len(err) == 1 and str(tmp_path / "run") in err[0]
    Run.start(tmp_path / "run", trained.settings)
    assert read_json(manifest) == whole


def test_a_manifest_with_settings_of_another_version_can_be_read_but_not_continued(trained, tmp_path, cli):
    shutil.copytree(trained.path, tmp_path / "run")
    manifest = tmp_path / "run" / "manifest.json"
    content = read_json(manifest)
    content["settings"]["clip"]["lustre"] = 1
    write_json(content, manifest)
    code, _, err = cli("train", "--run", tmp_path / "run")
    assert code == 2 and len(err) == 1 and f"{manifest}: unknown setting 'clip.lustre'" in err[0]
    assert Run.open(tmp_path / "run").folder("prompts0").is_dir()


@pytest.mark.parametrize(
    "content", [*RECORDS, '{"pid": "x"}', '{"pid": 99999999999999999999, "host": "%s", "since": ""}']
)
def test_a_damaged_note_on_the_owner_holds_nothing(tmp_path, content):
    (tmp_path / ".owner.json").write_text(content.replace("%s", os.uname().nodename))
    with held(tmp_path):
        assert read_json(tmp_path / OWNER)["pid"] == os.getpid()


def test_a_full_disk_is_named_and_the_earlier_progress_kept(run):
    folder = run.path / "warmup"
    before = (folder / "progress.pt").read_bytes()
    (folder / ".progress.pt.partial").symlink_to("/dev/full")
    with pytest.raises(OSError) as error:
        training.warm_up(run)
    assert error.value.errno == errno.ENOSPC and error.value.filename == str(folder / "progress.pt")
    assert (folder / "progress.pt").read_bytes() == before and not (folder / ".progress.pt.partial").is_symlink()


@pytest.mark.parametrize("name", ["optimizer.pt", "enhancer.safetensors", "log.csv", "stage.json"])
def test_a_full_disk_at_any_other_file_is_named_in_one_line(run, cli, name):
    path = run.path / "warmup" / name
    path.with_name(f".{name}.partial").symlink_to("/dev/full")
    code, _, err = cli("train", "--run", run.path, *SHORT)
    assert code == 2 and err == [f"cliplit: error: {path}: No space left on device"]
    assert cli("train", "--run", run.path, *SHORT)[0] == 0


def test_json_is_strict_and_odd_names_are_no_errors(tmp_path):
    write_json(
        {"a": float("nan"), "b": [1.5, float("inf"), (float("-inf"), "x")], "c": {"d": True}}, tmp_path / "a.json"
    )

    def refuse(name):
        raise AssertionError(name)

    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse) == {"a": None, "b": [1.5, None, [None, "x"]], "c": {"d": True}}
    assert finite([1, "a", None, 2.0]) == [1, "a", None, 2.0]
    write_text("caf\udce9", tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "caf\\udce9"
