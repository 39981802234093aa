"""A run is a record: whatever a user does by accident, its weights stay byte for byte, and its tables can be read."""

import errno
import os
import shutil
import signal
import stat
import time
from pathlib import Path

import pytest
from layouts import write_photo
from processes import FORKS, start

import cliplit
from cliplit.engine import stages
from cliplit.engine.loop import Loop
from cliplit.experiments.notebooks import reproduce
from cliplit.files.atomic import read_json, write_json
from cliplit.method.run import Run, choose_run, start_run

QUICK = [
    "--profile",
    "smoke",
    "--set",
    "evaluation.control=false",
    "--set",
    "evaluation.longer=false",
    "--set",
    "evaluation.metrics=psnr",
]
QUICK += ["--set", "refinement.rounds=1", "--set", "watch.panel_every=0"]
FOLDERS = ("backlit", "well-lit", "test-backlit", "test-reference")
ROW = "| round1 |"  # of the table of a finished run


def write_folders(place: Path) -> list[str]:
    """Own photos, whose test images have names that could be taken for something else; the options that give them."""
    shutil.rmtree(place, ignore_errors=True)
    for n, name in enumerate(("NA", "None", "1")):
        write_photo(place / "test-backlit" / f"{name}.png", n, gain=0.3)
        write_photo(place / "test-reference" / f"{name}.png", n)
        write_photo(place / "backlit" / f"{n}.png", 10 + n, gain=0.3)
        write_photo(place / "well-lit" / f"{n}.png", 20 + n)
    return options_of(place)


def options_of(place: Path) -> list[str]:
    return [part for name in FOLDERS for part in (f"--{name}", str(place / name))]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with the photos and a run that is finished."""
    place = tmp_path_factory.mktemp("record")
    process = start("train", "--run", place / "run", *QUICK, *write_folders(place / "photos"))
    process.join()
    assert process.exitcode == 0
    return place


@pytest.fixture
def photos(trained) -> Path:
    """The photos of the run, as they were."""
    write_folders(trained / "photos")
    return trained / "photos"


@pytest.fixture
def record(trained, photos, tmp_path, monkeypatch) -> Path:
    """A copy of the run, in the working directory."""
    shutil.copytree(trained / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def weights(run: Path) -> dict[str, bytes]:
    files = [*run.rglob("*.safetensors"), *run.rglob("*.npy"), *run.rglob("scores.csv"), *run.rglob("optimizer.pt")]
    return {str(file.relative_to(run)): file.read_bytes() for file in files}


def assert_kept(cli, run: Path, before: dict[str, bytes]) -> None:
    """That the weights are what they were, and the table is shown."""
    assert weights(run) == before and len(before) > 8
    code, out, err = cli("tables", "--run", run, "--output", run.parent / "tables")
    assert (code, err) == (0, []) and any(line.startswith(ROW) for line in out)
    assert (run.parent / "tables" / "stages.csv").is_file()


def touch(place: Path) -> None:
    for file in place.glob("*/*.png"):
        os.utime(file, (1, 1))


def add_files(place: Path) -> None:
    for folder in FOLDERS:
        for name in (".DS_Store", "Thumbs.db", "scores.csv", "notes.txt", "layers.psd"):
            (place / folder / name).write_text("anything")
        (place / folder / "below").mkdir()


def add_photos(place: Path) -> None:
    write_photo(place / "backlit" / "more.png", 99)
    write_photo(place / "test-backlit" / "alone.png", 99)


def change_photos(place: Path) -> None:
    write_photo(place / "backlit" / "0.png", 99, (50, 44))
    (place / "well-lit" / "1.png").write_bytes(b"no picture")
    (place / "test-backlit" / "NA.png").unlink()


def move(place: Path) -> None:
    (place / "elsewhere").mkdir()
    for folder in FOLDERS:
        (place / folder).rename(place / "elsewhere" / folder)


@pytest.mark.parametrize(
    "accident", [touch, add_files, add_photos, change_photos, move], ids=lambda each: each.__name__
)
def test_whatever_happens_to_the_photos_the_run_has_its_own(cli, record, photos, accident):
    before, builds = weights(record), {file: file.read_bytes() for file in record.glob("*/stage.json")}
    accident(photos)
    for command in (["train", "--run", record], ["train", "--run", "run", *QUICK, *options_of(photos)]):
        code, _, err = cli(*command)
        changed = accident in (add_photos, change_photos, move)
        assert code == 0 and len(err) == changed and all("uses its own copies of the images" in line for line in err)
    assert {file: file.read_bytes() for file in record.glob("*/stage.json")} == builds
    assert_kept(cli, record, before)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--seed", 1], "seed 0 -> 1"),
        (["--set", "enhancement.iterations=9"], "enhancement.iterations 4 -> 9"),
        (["--set", "evaluation.metrics=ssim"], "evaluation.metrics psnr -> ssim"),
        (["--profile", "demo"], "profile smoke -> demo"),
        (["--backlit", "elsewhere"], "data.backlit"),
        (["--random-clip"], "clip.random False -> True"),
    ],
)
def test_other_settings_are_refused_and_change_nothing(cli, record, options, told):
    before, manifest = weights(record), (record / "manifest.json").read_bytes()
    for command in ("train", "reproduce", "plan"):
        code, out, err = cli(command, "--run", record, *options)
        assert code == 2 and out == [] and len(err) == 1 and told in err[0]
        assert "choose another --run" in err[0] and "--rebuild" in err[0]
    assert (record / "manifest.json").read_bytes() == manifest
    assert_kept(cli, record, before)


def test_a_forgotten_setting_or_one_that_changes_no_result_is_no_other_setting(cli, record):
    before = weights(record)
    for options in ([], ["--profile", "smoke"], ["--seed", 0], ["--set", "watch.panel_every=7"], ["--device", "cpu"]):
        assert cli("train", "--run", record, *options)[::2] == (0, [])
    assert_kept(cli, record, before)


def hold(folder: Path) -> None:
    with stages.held(folder):
        time.sleep(60)


def test_a_second_command_is_refused_and_the_tables_can_still_be_read(cli, record):
    before = weights(record)
    process = FORKS.Process(target=hold, args=[record])
    process.start()
    while not (record / stages.OWNER).is_file():
        time.sleep(0.02)
    for options in (["--set", "refinement.rounds=0", "--rebuild"], []):
        code, _, err = cli("train", "--run", record, *options)
        assert code == 2 and f"process {process.pid} on " in err[-1] and "has used this run since" in err[-1]
    assert_kept(cli, record, before)
    process.kill()
    process.join()
    assert cli("train", "--run", record)[0] == 0
    assert_kept(cli, record, before)


def test_an_upgrade_keeps_the_run_and_its_version_is_shown(cli, record, monkeypatch):
    before = weights(record)
    monkeypatch.setattr(cliplit, "__version__", "99.0")
    assert cli("train", "--run", record)[0] == 0
    manifest = read_json(record / "manifest.json")
    manifest["settings"]["clip"]["lustre"] = 1
    manifest["settings"]["mood"] = {"of": "another version"}
    write_json(manifest, record / "manifest.json")
    assert cli("tables", "--run", record)[1][0].endswith(f"made by cliplit {manifest['cliplit']}")
    assert manifest["cliplit"] != "99.0"
    code, _, err = cli("train", "--run", record)
    assert code == 2 and len(err) == 1 and "unknown setting 'clip.lustre'" in err[0]
    assert_kept(cli, record, before)


def test_a_run_under_another_name_is_the_same_run(cli, record):
    before, other = weights(record), record.with_name("a new name")
    record.rename(other)
    assert cli("train", "--run", other)[::2] == (0, [])
    (record.parent / "link").symlink_to(other)
    assert cli("train", "--run", record.parent / "link")[::2] == (0, [])
    assert_kept(cli, other, before)


@pytest.mark.parametrize("refusal", [errno.EACCES, errno.EROFS])
def test_a_run_that_cannot_be_written_shows_its_table(cli, record, monkeypatch, refusal):
    before, write = weights(record), Path.write_bytes

    def refuse(path: Path, content: bytes) -> int:
        if record in path.absolute().parents:
            raise OSError(refusal, os.strerror(refusal), str(path))
        return write(path, content)

    for path in (record, *record.rglob("*")):
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    monkeypatch.setattr(Path, "write_bytes", refuse)  # whoever may do all, such as root, may write nevertheless
    code, out, err = cli("tables", "--run", record)
    assert code == 0 and any(line.startswith(ROW) for line in out)
    assert len(err) == 1 and "--output DIR writes the tables elsewhere" in err[0] and os.strerror(refusal) in err[0]
    code, _, err = cli("tables", "--run", record, "--output", record / "below")
    assert code == 2 and len(err) == 1 and os.strerror(refusal) in err[0]
    assert_kept(cli, record, before)
    for path in (record, *record.rglob("*")):
        path.chmod(path.stat().st_mode | stat.S_IWUSR)


@pytest.mark.parametrize("stage", ["prompts0", "enhancer0", "prompts1"])
def test_after_an_interruption_the_folder_is_all_that_one_has_to_say(
    cli, trained, photos, tmp_path, monkeypatch, stage
):
    step = Loop.step

    def interrupted(loop, *arguments, **terms):
        step(loop, *arguments, **terms)
        if loop.folder.name == stage and loop.at.done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "step", interrupted)
        assert cli("train", "--run", tmp_path / "run", *QUICK, *options_of(photos))[0] == 130
    assert not (tmp_path / "run" / stage / "stage.json").exists()
    assert cli("train", "--run", tmp_path / "run")[0] == 0
    assert weights(tmp_path / "run") == weights(trained / "run")


@pytest.mark.usefixtures("one_kernel")
def test_notebooks_continue_a_run_that_was_interrupted(trained, record, monkeypatch):
    shutil.rmtree(record / "evaluation")
    shutil.rmtree(record / "enhancer1")
    before = {name: content for name, content in weights(record).items()}
    assert len(reproduce(choose_run("", record, {}))) == 5
    assert weights(record) == weights(trained / "run") and before.items() <= weights(record).items()
    monkeypatch.chdir(record.parent)
    assert start_run("smoke", "run").settings == start_run(run=str(record)).settings == Run.open(record).settings


@pytest.mark.parametrize("rename", [1, 2])
def test_killed_as_a_stage_is_replaced_the_old_or_the_new_one_is_complete(cli, record, photos, monkeypatch, rename):
    before, renamed, renames = weights(record), [], os.rename

    def killed(source: Path, target: Path) -> None:
        renamed.append(target)
        if len(renamed) == rename:
            raise KeyboardInterrupt
        renames(source, target)

    change = ["--set", "enhancement.iterations=5", "--rebuild"]
    with monkeypatch.context() as patch:
        patch.setattr(stages.os, "rename", killed)
        assert cli("train", "--run", record, *change)[0] == 130
    run = Run.open(record)
    assert run.finished() == list(run.plan)
    kept = weights(run.folder("warmup"))
    assert kept and all(before[f"warmup/{name}"] == content for name, content in kept.items() if rename == 1)
    code, out, _ = cli("tables", "--run", record, "--output", record.parent / "tables")
    assert code == 0 and any(line.startswith(ROW) for line in out)
    assert cli("train", "--run", record)[0] == 0
    other = start("train", "--run", record.parent / "other", *QUICK, *change[:2], *options_of(photos))
    other.join()
    ours, expected = weights(record), weights(record.parent / "other")
    for name in ours.keys() | expected.keys():  # prompts0 does not depend on the change, and notes the earlier settings
        source = before if name.startswith("prompts0/") else expected
        assert ours[name] == source[name], name
    assert not [path for path in record.iterdir() if path.name in (stages.NEW, stages.OLD)]


@pytest.mark.parametrize("seconds", [0.1, 0.4])
def test_killed_at_any_moment_of_a_rebuild_every_stage_is_there(cli, record, seconds):
    before = weights(record)
    change = ["--set", "enhancement.iterations=5", "--set", "watch.save_seconds=0", "--rebuild"]
    process = start("train", "--run", record, *change)
    while process.exitcode is None and not (record / stages.NEW).is_dir():
        time.sleep(0.005)
    time.sleep(seconds)
    process.kill()
    process.join()
    run = Run.open(record)
    assert run.finished() == list(run.plan) and weights(run.folder("prompts0")) == weights(record / "prompts0")
    assert len(weights(run.folder("warmup"))) == len([name for name in before if name.startswith("warmup/")])
    code, out, _ = cli("tables", "--run", record)
    assert code == 0 and any(line.startswith(ROW) for line in out)
    assert cli("train", "--run", record)[0] == 0 and all(map(choose_run("", record, {}).is_current, run.plan))


def test_a_rebuild_and_the_control_use_the_copies_of_images_that_are_gone(record, photos, cli, tmp_path):
    for name in FOLDERS:
        (photos / name).rename(tmp_path / name)
    changes = ("--set", "evaluation.control=true", "--set", "enhancement.iterations=3")
    code, out, err = cli("train", "--run", record, "--rebuild", *changes)
    assert code == 0 and any(line.startswith("| random-clip |") for line in out)
    assert any("its own copies of the images" in line for line in err)


def test_results_that_do_not_fit_are_refused_before_the_training(photos, cli, tmp_path):
    write_photo(tmp_path / "theirs" / "NA.png", 0)
    run = tmp_path / "run"
    code, _, err = cli("train", "--run", run, *QUICK, *options_of(photos), "--results", f"A={tmp_path / 'theirs'}")
    assert code == 2 and "not results of these test images" in err[-1] and not run.exists()


def test_a_new_run_says_so(cli, tmp_path):
    _, _, err = cli("train", "--run", tmp_path / "run", *QUICK, "--set", "refinement.rounds=0")
    assert err[0] == f"{tmp_path / 'run'}: a new run of profile smoke"
