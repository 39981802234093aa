"""Data sets: got, verified, prepared, synthesized, and used by a run; whatever is wrong ends in one line or a report."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import make_catalog_small, write_lol, write_photo, write_test_sets, write_training_sets
from PIL import Image
from standins import Fault, serving

from cliplit.data.get import get_data_set, verify_folder
from cliplit.data.manifest import (
    CATALOG,
    ROLES,
    Location,
    Manifest,
    describe_image,
    images_by_role,
    read_manifest,
    write_manifest,
)
from cliplit.data.prepare import prepare_data_set, split_scenes, synthesize_data_set
from cliplit.data.relight import SEVERITIES, relight_photo
from cliplit.errors import CliplitError
from cliplit.files.images import decode
from cliplit.files.tensors import read_image
from cliplit.method import run_images
from cliplit.method.run import start_run
from cliplit.method.run_images import changed_sources, prepare_data, training_images
from cliplit.settings import Data


@pytest.fixture(autouse=True)
def small(monkeypatch):
    make_catalog_small(monkeypatch)


@pytest.fixture
def archives(tmp_path) -> dict[str, Path]:
    """What CLIP-LIT's folders hold, as archives."""
    made = {}
    for name, write in (("train", write_training_sets), ("test", write_test_sets), ("lol", write_lol)):
        write(tmp_path / "published" / name)
        made[name] = Path(shutil.make_archive(str(tmp_path / name), "zip", tmp_path / "published" / name))
    return made


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "data"


def counts(folder) -> dict[str, int]:
    manifest = read_manifest(folder)
    return {role: len(manifest.of(role)) for role in ROLES if manifest.of(role)}


def refusal(function, *arguments, **options) -> str:
    with pytest.raises(CliplitError) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# ---- get ----


def test_get_from_archives_fetched_by_hand(archives, root, capsys):
    folder = get_data_set("baid", root, [archives["train"], archives["test"]])
    said = capsys.readouterr().err.splitlines()
    assert counts(folder) == {"train_backlit": 6, "test_backlit": 5, "test_reference": 5}
    assert any("duplicate" in line and "0002(2).png: a numbered copy of test/backlit/0002.png" in line for line in said)
    manifest = read_manifest(folder)
    assert "by hand: train.zip, test.zip" in manifest.source and manifest.licence and len(manifest.problems) == 1
    listed = {image.path for image in manifest.images} | {"dataset.json"}
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == listed
    assert visible(root) == ["baid"] and not verify_folder(folder).findings


@pytest.mark.parametrize("name, number", [("div2k", 4), ("backlit300", 3), ("lol-v1", 16)])
def test_get_from_folders_and_from_folders_of_archives(archives, root, tmp_path, name, number):
    get_data_set(name, root / "a", [tmp_path / "published"])
    (tmp_path / "archives").mkdir()
    for archive in archives.values():
        shutil.move(archive, tmp_path / "archives")
    get_data_set(name, root / "b", [tmp_path / "archives"])
    one, other = (read_manifest(root / side / name).images for side in "ab")
    assert one == other and len(one) == number


def test_a_folder_given_by_itself_needs_no_name(root, tmp_path):
    write_test_sets(tmp_path / "published")
    (tmp_path / "published" / "Backlit300").rename(tmp_path / "mine")
    assert counts(get_data_set("backlit300", root, [tmp_path / "mine"])) == {"test_backlit": 3}


def test_an_input_that_only_has_numbered_copies_serves_under_its_stem(archives, root, tmp_path):
    inputs = tmp_path / "published" / "test" / "BAID" / "test" / "resize_input"
    (inputs / "0002.png").rename(inputs / "0002(1).png")
    folder = get_data_set("baid", root, [tmp_path / "published"])
    assert (folder / "test" / "backlit" / "0002.png").is_file() and counts(folder)["test_backlit"] == 5


def test_what_is_there_is_left_unless_forced(archives, root, tmp_path):
    folder = get_data_set("div2k", root, [archives["train"]])
    before = (folder / "dataset.json").stat().st_mtime_ns
    get_data_set("div2k", root, [tmp_path / "nowhere"])
    assert (folder / "dataset.json").stat().st_mtime_ns == before
    assert "no such file" in refusal(get_data_set, "div2k", root, [tmp_path / "nowhere"], force=True)
    assert (folder / "dataset.json").stat().st_mtime_ns == before
    get_data_set("div2k", root, [archives["train"]], force=True)
    assert (folder / "dataset.json").stat().st_mtime_ns > before and visible(root) == ["div2k"]


def test_something_else_in_its_place_is_not_replaced(archives, root):
    write_photo(root / "div2k" / "mine.png", 0)
    assert "already exists; move it" in refusal(get_data_set, "div2k", root, [archives["train"]], force=True)
    assert visible(root / "div2k") == ["mine.png"]


def test_a_set_that_is_not_complete_is_refused_or_kept_on_demand(root, tmp_path):
    published = write_training_sets(tmp_path / "published")
    (published / "DIV2K_384" / "0001.png").write_bytes(b"not an image")
    line = refusal(get_data_set, "div2k", root, [published])
    assert "2 problem(s), nothing was kept; the first: unreadable train/well_lit/0001.png" in line
    assert visible(root) == []
    folder = get_data_set("div2k", root, [published], skip_bad=True)
    problems = read_manifest(folder).problems
    assert counts(folder) == {"train_well_lit": 3} and "3 usable images, 4 expected" in problems[1]


def test_other_folders_than_published_are_named(archives, root):
    line = refusal(get_data_set, "lol-v1", root, [archives["train"]])
    assert "no images for train_backlit" in line and "our485/low" in line and "cliplit data prepare" in line


def test_two_folders_that_could_be_meant(root, tmp_path):
    for n in "ab":
        write_training_sets(tmp_path / "published" / n)
    assert "several folders match" in refusal(get_data_set, "div2k", root, [tmp_path / "published"])


def test_a_damaged_archive(archives, root):
    archives["train"].write_bytes(archives["train"].read_bytes()[:-500])
    assert "not unpacked" in refusal(get_data_set, "div2k", root, [archives["train"]])
    assert visible(root) == [] and archives["train"].exists()


def test_unknown_names(root):
    assert "unknown data set 'baidu'; valid: baid, div2k, backlit300, lol-v1" in refusal(get_data_set, "baidu", root)
    assert "no source 'mirror'; valid: authors, rave, official" in refusal(get_data_set, "div2k", root, source="mirror")


@pytest.fixture
def web(monkeypatch, tmp_path):
    """A server with DIV2K's training images, of which more than needed, at the address of the source `official`."""
    for n in range(7):
        write_photo(tmp_path / "hr" / "DIV2K_train_HR" / f"{n:04}.png", n)
    content = Path(shutil.make_archive(str(tmp_path / "hr"), "zip", tmp_path / "hr")).read_bytes()
    with serving() as server:
        server.files["/DIV2K_train_HR.zip"] = content
        location = Location(server.url + "/DIV2K_train_HR.zip")
        known = CATALOG["div2k"]
        monkeypatch.setitem(CATALOG, "div2k", replace(known, sources={"official": (location,)}))
        yield server


def test_get_over_http_takes_the_first_images(web, root, capsys):
    web.faults["/DIV2K_train_HR.zip"] = [Fault(stop_after=2000)]
    folder = get_data_set("div2k", root)
    assert [image.path for image in read_manifest(folder).images] == [f"train/well_lit/{n:04}.png" for n in range(4)]
    assert capsys.readouterr().err.endswith("these downloads are no longer needed; you may remove them\n")
    assert visible(root) == ["div2k", "downloads"]


def test_a_download_of_another_file_than_published_is_refused(web, root, monkeypatch):
    content = web.files["/DIV2K_train_HR.zip"]
    location = Location(web.url + "/DIV2K_train_HR.zip", sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(CATALOG, "div2k", replace(CATALOG["div2k"], sources={"official": (location,)}))
    folder = get_data_set("div2k", root)
    before = (folder / "dataset.json").read_bytes()
    (root / "downloads" / "DIV2K_train_HR.zip").write_bytes(b"x")
    assert "as published; remove the file" in refusal(get_data_set, "div2k", root, force=True)
    shutil.rmtree(root / "downloads")
    web.files["/DIV2K_train_HR.zip"] += b"more"
    assert "SHA-256 is" in refusal(get_data_set, "div2k", root, force=True)
    assert (folder / "dataset.json").read_bytes() == before and visible(root / "downloads") == []


def test_a_damaged_download_is_not_taken_again(web, root):
    whole = web.files["/DIV2K_train_HR.zip"]
    web.files["/DIV2K_train_HR.zip"] = whole[:-300]
    assert "not unpacked" in refusal(get_data_set, "div2k", root)
    assert visible(root) == ["downloads"] and visible(root / "downloads") == []
    web.files["/DIV2K_train_HR.zip"] = whole
    assert counts(get_data_set("div2k", root)) == {"train_well_lit": 4}


def test_get_from_google_drive(root, tmp_path, monkeypatch):
    published = write_test_sets(tmp_path / "published")
    gdown = types.ModuleType("gdown")

    def download_folder(output, skip_download=False, **_):
        shutil.copytree(published, output) if not skip_download else None
        return [types.SimpleNamespace(path=str(p.relative_to(published))) for p in published.rglob("*") if p.is_file()]

    gdown.download_folder = download_folder
    monkeypatch.setitem(sys.modules, "gdown", gdown)
    assert counts(get_data_set("backlit300", root)) == {"test_backlit": 3}


# ---- verify ----


def findings(folder, name="") -> set[tuple[str, str]]:
    return {(found.kind, found.path) for found in verify_folder(folder, name).findings}


def test_planted_faults_in_the_published_layouts_are_reported_completely(tmp_path):
    write_training_sets(tmp_path)
    write_test_sets(tmp_path)
    training = tmp_path / "BAID_380" / "resize_input"
    test = tmp_path / "BAID" / "test"
    shutil.copy(training / "0000.png", training / "again.png")
    (training / "0001.png").write_bytes((training / "0001.png").read_bytes()[:300])
    (test / "resize_gt" / "0003.png").unlink()
    write_photo(test / "resize_gt" / "0004.png", 204, (41, 32))
    shutil.copy(test / "resize_input" / "0000.png", training / "leak.png")
    assert findings(tmp_path, "baid") == {
        ("duplicate", "BAID_380/resize_input/again.png"),
        ("unreadable", "BAID_380/resize_input/0001.png"),
        ("partner", "BAID/test/resize_input/0003.png"),
        ("size", "BAID/test/resize_input/0004.png"),
        ("duplicate", "BAID/test/resize_input/0002(2).png"),
        ("shared", "BAID/test/resize_input/0000.png"),
        ("count", "test_reference"),
    }
    shutil.copy(tmp_path / "DIV2K_384" / "0000.png", tmp_path / "DIV2K_384" / "9999.png")
    (tmp_path / "DIV2K_384" / "0003.png").unlink()
    assert findings(tmp_path, "div2k") == {("duplicate", "DIV2K_384/9999.png"), ("count", "train_well_lit")}
    (tmp_path / "Backlit300" / "photo 1.png").write_bytes(b"")
    assert findings(tmp_path, "backlit300") == {("unreadable", "Backlit300/photo 1.png"), ("count", "test_backlit")}


def test_what_changed_since_a_set_was_made_is_reported(archives, root):
    folder = get_data_set("baid", root, [archives["train"], archives["test"]])
    write_photo(folder / "train" / "backlit" / "0000.png", 77)
    (folder / "test" / "reference" / "0001.png").unlink()
    assert findings(folder) == {
        ("changed", "train/backlit/0000.png"),
        ("missing", "test/reference/0001.png"),
        ("partner", "test/backlit/0001.png"),
        ("count", "test_reference"),
    }


def test_verify_on_the_command_line(cli, archives, root):
    get_data_set("div2k", root, [archives["train"]])
    code, out, _ = cli("data", "verify", "div2k", "--root", root)
    assert code == 0 and out == [f"{root / 'div2k'}: 0 problems", "  train_well_lit  4 images"]
    (root / "div2k" / "train" / "well_lit" / "0000.png").unlink()
    code, out, _ = cli("data", "verify", "div2k", "--root", root)
    assert code == 1 and out[:2] == [f"{root / 'div2k'}: 2 problems", "  train_well_lit  3 images"]
    assert [line.split()[0] for line in out[2:]] == ["missing", "count"]
    code, out, err = cli("data", "verify", "lol-v1", "--root", root)
    assert (code, out) == (2, []) and "lol-v1: not a data set" in err[0] and "`cliplit data get`" in err[0]


def test_only_good_pairs_of_an_incomplete_set_are_kept(root, tmp_path):
    test = write_test_sets(tmp_path / "published") / "BAID" / "test"
    write_training_sets(tmp_path / "published")
    (test / "resize_gt" / "0003.png").unlink()
    write_photo(test / "resize_gt" / "0004.png", 204, (41, 32))
    folder = get_data_set("baid", root, [tmp_path / "published"], skip_bad=True)
    assert counts(folder) == {"train_backlit": 6, "test_backlit": 3, "test_reference": 3}
    assert {line.split()[0] for line in read_manifest(folder).problems} == {"duplicate", "partner", "size", "count"}


# ---- prepare ----


def folders(tmp_path) -> Data:
    write_training_sets(tmp_path)
    write_test_sets(tmp_path)
    sides = (tmp_path / "BAID_380" / "resize_input", tmp_path / "DIV2K_384", tmp_path / "Backlit300")
    return Data((), *map(str, sides))


def test_prepared_copies_are_resized_as_the_authors_did(root, tmp_path):
    prepare_data_set(root / "mine", folders(tmp_path), size=24)
    assert counts(root / "mine") == {"train_backlit": 6, "train_well_lit": 4, "test_backlit": 3}
    original = Image.open(tmp_path / "DIV2K_384" / "0002.png").convert("RGB")
    expected = np.asarray(original.resize((24, 24), Image.Resampling.LANCZOS))
    assert np.array_equal(decode(root / "mine" / "train" / "well_lit" / "0002.png"), expected)
    manifest = read_manifest(root / "mine")
    assert manifest.of("train_backlit")[0].made == {"from": "0000.png"} and manifest.made == {"size": 24}
    untouched = (root / "mine" / "test" / "backlit" / "photo 0.png").read_bytes()
    assert untouched == (tmp_path / "Backlit300" / "photo 0.png").read_bytes() and visible(root) == ["mine"]


def test_prepare_refuses_what_cannot_serve(root, tmp_path):
    given = folders(tmp_path)
    (tmp_path / "DIV2K_384" / "0001.png").write_bytes(b"x")
    line = refusal(prepare_data_set, root / "mine", given, size=24)
    assert "0001.png: not an image" in line and "--skip-bad" in line and visible(root) == []
    prepare_data_set(root / "mine", given, size=24, skip_bad=True)
    assert counts(root / "mine")["train_well_lit"] == 3 and "unreadable" in read_manifest(root / "mine").problems[0]
    assert "already exists; --force" in refusal(prepare_data_set, root / "mine", given, size=24, skip_bad=True)
    assert "nothing to prepare" in refusal(prepare_data_set, root / "other", Data())


@pytest.mark.parametrize("side", ["backlit", "well_lit"])
def test_two_images_of_one_stem_are_named_instead_of_one_being_dropped(root, tmp_path, side):
    folders = {name: tmp_path / name for name in ("backlit", "well_lit")}
    for folder in folders.values():
        for n in range(4):
            write_photo(folder / f"{n}.png", n)
    Image.open(folders[side] / "1.png").save(folders[side] / "1.jpg")
    data = Data(**{name: str(folder) for name, folder in folders.items()})
    line = refusal(prepare_data_set, root / "mine", data, 16)
    assert str(folders[side]) in line and "1.jpg" in line and "1.png" in line
    assert visible(root) == []


def test_images_that_would_take_one_anothers_place_are_named(root, tmp_path):
    for name in ("a/1.png", "b/1.png"):
        write_photo(tmp_path / "set" / "test" / name, 0)
    paths = [tmp_path / "set" / "test" / name for name in ("a/1.png", "b/1.png")]
    entries = tuple(describe_image(path, tmp_path / "set", "test_backlit", (8, 8)) for path in paths)
    write_manifest(Manifest("set", "", "", entries), tmp_path / "set")
    line = refusal(prepare_data_set, root / "mine", Data(sets=(str(tmp_path / "set"),)))
    assert all(str(path) in line for path in paths) and visible(root) == []


def test_photos_of_one_stem_are_named_by_synthesize(root, tmp_path):
    for name in ("a.png", "a.jpg", "b.png", "c.png"):
        write_photo(tmp_path / "photos" / name, 0)
    line = refusal(synthesize_data_set, root / "mine", tmp_path / "photos")
    assert f"{tmp_path / 'photos' / 'a.jpg'} and {tmp_path / 'photos' / 'a.png'} have the same stem" in line


@pytest.mark.parametrize("role", ["test_backlit", "test_reference"])
def test_verify_names_a_second_image_of_a_stem(tmp_path, role):
    folder = tmp_path / "set"
    roles = {"test_backlit": ["a.png"], "test_reference": ["a.png"]}
    roles[role].append("a.bmp")
    entries = []
    for n, (each, names) in enumerate(roles.items()):
        for m, name in enumerate(names):
            write_photo(folder / each / name, seed=2 * n + m)
            size = decode(folder / each / name).shape[1::-1]
            entries.append(describe_image(folder / each / name, folder, each, size))
    write_manifest(Manifest("set", "", "", tuple(entries)), folder)
    (found,) = verify_folder(folder).problems
    assert found.kind == "stem" and {found.path, found.detail.split()[4].strip(";")} == {
        f"{role}/a.png",
        f"{role}/a.bmp",
    }


def test_scenes_are_split_alike_everywhere():
    sides = split_scenes([f"{n}" for n in range(8)], seed=0, test_share=0.25)
    letters = {("train_backlit",): "b", ("train_well_lit",): "w", ("test_backlit", "test_reference"): "t"}
    assert "".join(letters[sides[f"{n}"]] for n in range(8)) == "twbwtbbw"


def test_prepare_on_the_command_line(cli, archives, root):
    get_data_set("div2k", root, [archives["train"]])
    code, out, err = cli("data", "prepare", "small", "--data", root / "div2k", "--root", root, "--size", 16)
    assert code == 0 and out == [str(root / "small")] and "  train_well_lit  4 images" in err
    assert read_manifest(root / "small").licence == CATALOG["div2k"].licence
    code, out, err = cli("data", "prepare", "nothing", "--root", root)
    assert (code, out) == (2, []) and "nothing to prepare" in err[0]


# ---- synthesize ----


@pytest.fixture
def photos(tmp_path) -> Path:
    for n in range(10):
        write_photo(tmp_path / "photos" / f"{n}.png", n, (60, 48))
    return tmp_path / "photos"


def test_every_photo_serves_once_and_its_parameters_are_stored(photos, root):
    manifest = synthesize_data_set(root / "mine", photos, test_share=0.2)
    assert counts(root / "mine") == dict(train_backlit=4, train_well_lit=4, test_backlit=2, test_reference=2)
    stems = [Path(image.path).stem for image in manifest.images if image.role != "test_reference"]
    assert sorted(stems) == [str(n) for n in range(10)]
    for image in manifest.of("train_backlit") + manifest.of("test_backlit"):
        assert 2.5 <= image.made["stops"] <= 3.5 and set(image.made) == {
            "from",
            "stops",
            "background_stops",
            "coverage",
        }
    assert manifest.made["level"] == "medium" and manifest.made["backlight"]["photons"] == 4000
    assert read_manifest(root / "mine").images and not verify_folder(root / "mine").findings


def test_the_same_seed_makes_the_same_bytes(photos, root):
    one, same, other = (
        synthesize_data_set(root / name, photos, seed=seed).images for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert one == same != other


def test_levels_differ_in_nothing_but_the_degree(photos, root):
    made = {level: synthesize_data_set(root / level, photos, level, test_share=1) for level in SEVERITIES}
    assert len({tuple(image.path for image in manifest.images) for manifest in made.values()}) == 1
    drawn = [[image.made for image in manifest.of("test_backlit")] for manifest in made.values()]
    for mild, medium, severe in zip(*drawn, strict=True):
        assert severe["stops"] - medium["stops"] == pytest.approx(medium["stops"] - mild["stops"], abs=1e-3) == 1.5
        assert mild["coverage"] == medium["coverage"] == severe["coverage"]
    means = [
        torch.stack([read_image(root / level / image.path).mean() for image in made[level].of("test_backlit")])
        for level in SEVERITIES
    ]
    assert (means[0] > means[1]).all() and (means[1] > means[2]).all()
    photo = read_image(photos / "0.png")
    assert torch.equal(
        read_image(root / "severe" / "test" / "backlit" / "0.png"), relight_photo(photo, "0", "severe", 0)[0]
    )


def test_large_photos_are_reduced(photos, root):
    assert synthesize_data_set(root / "mine", photos, size=30).images[0].size == (30, 24)


def test_several_draws_of_a_photo_serve_for_training_alone(photos, root):
    manifest = synthesize_data_set(root / "mine", photos, "any", test_share=0, draws=3)
    assert counts(root / "mine") == dict(train_backlit=15, train_well_lit=15)
    second = synthesize_data_set(root / "once", photos, "any", test_share=0, seed=1)
    made = {Path(image.path).name: image.sha256 for image in manifest.images}
    assert all(made[f"{Path(image.path).stem}.1.png"] == image.sha256 for image in second.images)
    assert "set the test share to 0" in refusal(synthesize_data_set, root / "a", photos, draws=2)


def test_synthesize_refuses_in_one_line(photos, root, tmp_path):
    assert "unknown level 'harsh'; valid: mild, medium, severe, mixed" in refusal(
        synthesize_data_set, root / "a", photos, level="harsh"
    )
    assert "too few" in refusal(synthesize_data_set, root / "a", photos, test_share=0.9)
    (photos / "3.png").write_bytes(b"x")
    assert "3.png: not an image" in refusal(synthesize_data_set, root / "a", photos) and visible(root) == []
    assert len(synthesize_data_set(root / "a", photos, skip_bad=True).problems) == 1


def test_synthesize_and_list_on_the_command_line(cli, photos, root):
    code, out, _ = cli("data", "synthesize", "mine", "--root", root, "--from", photos, "--level", "mild")
    assert code == 0 and out == [str(root / "mine")]
    code, out, _ = cli("data", "list", "--root", root)
    assert (
        code == 0
        and out[0].startswith("baid")
        and any(line.startswith("mine") and "made backlit" in line for line in out)
    )


# ---- data sets in a run ----


def run_with(tmp_path, **settings):
    overrides = {f"data.{name}": value for name, value in settings.items()}
    return start_run("smoke", tmp_path / "run", overrides=overrides)


@pytest.fixture
def sets(archives, root) -> dict[str, str]:
    given = {"baid": ["train", "test"], "div2k": ["train"], "backlit300": ["test"], "lol-v1": ["lol"]}
    return {name: str(get_data_set(name, root, [archives[a] for a in parts])) for name, parts in given.items()}


def test_a_run_takes_all_roles_from_data_sets(sets, tmp_path):
    run = run_with(tmp_path, sets=(sets["baid"], sets["div2k"]))
    record = prepare_data(run)
    assert [len(side) for side in training_images(run)] == [6, 4]
    assert [test.name for test in run_images.test_images(run)] == [f"{n:04}" for n in range(5)]
    assert all(test.reference is not None for test in run_images.test_images(run))
    assert (
        record["roles"]["train_well_lit"]["name"] == "div2k"
        and "academic" in record["roles"]["train_well_lit"]["licence"]
    )


def test_a_data_set_may_stand_wherever_a_folder_does(sets, tmp_path):
    run = run_with(tmp_path, backlit=sets["baid"], well_lit=sets["div2k"], test_backlit=sets["backlit300"])
    prepare_data(run)
    assert [len(side) for side in training_images(run)] == [6, 4]
    assert [test.reference for test in run_images.test_images(run)] == [None] * 3
    assert "no well-lit training images of other scenes here" in refusal(
        images_by_role, Data(backlit=sets["baid"], well_lit=sets["baid"])
    )


def test_folders_given_directly_go_before_data_sets(sets, tmp_path):
    chosen = images_by_role(Data(sets=(sets["baid"], sets["div2k"]), test_backlit=sets["backlit300"]))
    assert chosen["test_backlit"].name == "backlit300" and "test_reference" not in chosen
    chosen = images_by_role(Data(sets=(sets["baid"], sets["div2k"]), test_backlit=sets["lol-v1"]))
    assert chosen["test_reference"].name == "lol-v1" and chosen["train_backlit"].name == "baid"
    own = write_photo(tmp_path / "own" / "a.png", 1).parent
    assert images_by_role(Data(sets=(sets["baid"], sets["div2k"]), well_lit=str(own)))["train_well_lit"].name == ""


def test_data_sets_that_do_not_go_together(sets, tmp_path):
    line = refusal(images_by_role, Data(sets=(sets["baid"], sets["lol-v1"])))
    assert "both have backlit training images (role train_backlit)" in line and "--backlit" in line
    assert "--backlit and --well-lit go together" in refusal(images_by_role, Data(sets=(sets["baid"],)))
    assert "not a data set (no dataset.json)" in refusal(images_by_role, Data(sets=(str(tmp_path),)))


def test_a_changed_or_missing_file_of_a_data_set_is_refused(sets, tmp_path):
    run = run_with(tmp_path, sets=(sets["baid"], sets["div2k"]))
    path = Path(sets["div2k"]) / "train" / "well_lit" / "0001.png"
    kept = path.read_bytes()
    write_photo(path, 9)
    assert f"{path}: changed since its data set was made" in refusal(prepare_data, run)
    path.unlink()
    assert "1 of its files are missing" in refusal(prepare_data, run)
    path.write_bytes(kept)
    assert prepare_data(run)


def test_a_data_set_made_anew_leaves_the_data_of_a_run(sets, tmp_path, root):
    run = run_with(tmp_path, sets=(sets["baid"], sets["div2k"]))
    prepare_data(run)
    content = json.loads((root / "div2k" / "dataset.json").read_text())
    content["images"] = content["images"][:3]
    (root / "div2k" / "dataset.json").write_text(json.dumps(content))
    again = run_with(tmp_path, sets=(sets["baid"], sets["div2k"]))
    assert again.is_current("data") and len(changed_sources(again)) == len(training_images(run)[1]) - 3


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda content: content["images"][0].update(path="../../etc/passwd"), "leads out of the folder"),
        (lambda content: content["images"][0].update(path="/etc/passwd"), "leads out of the folder"),
        (lambda content: content["images"][0].update(role="train"), "unknown role 'train'"),
        (lambda content: content.update(format=9), "its format is not 1"),
        (lambda content: content["images"][0].pop("sha256"), "sha256"),
        (lambda content: content.pop("images"), "images"),
        (lambda content: content.update(images=None), "not a valid dataset.json"),
        (lambda content: content["images"].append(content["images"][0]), "is listed twice"),
        (lambda content: content["images"][0].update(path=3), "not a valid dataset.json"),
        (lambda content: content.update(name=None), "are not texts"),
        (lambda content: content.update(problems=[1]), "are not texts"),
        (lambda content: content.clear(), "format"),
    ],
)
def test_a_dataset_json_that_cannot_be_trusted(sets, change, says):
    path = Path(sets["div2k"]) / "dataset.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    line = refusal(images_by_role, Data(sets=(sets["div2k"],)))
    assert str(path) in line and says in line


@pytest.mark.parametrize("name", ["", ".", "..", "../sibling"])
def test_a_name_that_is_no_folder_below_the_root_is_refused(cli, root, tmp_path, name):
    write_photo(tmp_path / "dark" / "a.png", 1)
    for command in (("prepare", name, "--backlit"), ("synthesize", name, "--from")):
        code, _, err = cli("data", *command, tmp_path / "dark", "--root", root)
        assert code == 2 and err == [
            f"cliplit: error: '{name}' is not a valid name for a folder in {root}; choose another name"
        ]
    assert not root.exists() and [path.name for path in tmp_path.iterdir()] == ["dark"]


@pytest.mark.parametrize("command", [("prepare", "x", "--backlit"), ("synthesize", "x", "--from")])
def test_a_size_below_nothing_is_refused(cli, root, tmp_path, command):
    write_photo(tmp_path / "dark" / "a.png", 1)
    code, _, err = cli("data", *command, tmp_path / "dark", "--root", root, "--size", -3)
    assert code == 2 and "greater than or equal to 0" in " ".join(err) and not root.exists()


def test_a_log_gets_a_few_lines_and_no_line_for_each_image(root, tmp_path):
    for n in range(20):
        write_photo(tmp_path / "dark" / f"{n}.png", n)
    (tmp_path / "dark" / "drawing.svg").write_text("<svg/>")
    (tmp_path / "dark" / "below").mkdir()
    command = [sys.executable, "-m", "cliplit", "data", "prepare", "x", "--backlit", tmp_path / "dark", "--root", root]
    environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    done = subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    first, *rest = done.stdout.splitlines()
    assert done.returncode == 0 and first.split() == ["train_backlit", "20", "images"] and len(rest) == 3
    assert "drawing.svg" in rest[0] and "below" in rest[1] and rest[2] == str(root / "x") and "\r" not in done.stdout
