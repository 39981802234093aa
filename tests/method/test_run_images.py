"""Images and data sets: opened defensively, one line for whatever is wrong."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from cliplit.data import demo_images
from cliplit.errors import CliplitError
from cliplit.files.folders import list_images
from cliplit.files.tensors import read_image, write_image
from cliplit.method import run_images
from cliplit.method.run import Run, start_run
from cliplit.method.run_images import prepare_data, training_images
from cliplit.profiles import SMOKE
from cliplit.settings import Data


def save(array, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folders(tmp_path):
    for n in range(3):
        for kind in ("backlit", "well", "test", "reference"):
            save(noise(20, 30, 3, seed=n), tmp_path / kind / f"{n}.png")
    return tmp_path


def options(folders, **more):
    sides = {
        "data.backlit": "backlit",
        "data.well_lit": "well",
        "data.test_backlit": "test",
        "data.test_reference": "reference",
    }
    return {key: str(folders / name) for key, name in sides.items()} | more


def truncate(path):
    save(noise(64, 64, 3), path)
    path.write_bytes(path.read_bytes()[:700])


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff"])
def test_round_trip(tmp_path, suffix):
    array = noise(9, 7, 3)
    save(array, tmp_path / f"a.{suffix}")
    image = read_image(tmp_path / f"a.{suffix}")
    assert image.shape == (3, 9, 7) and torch.equal(
        (image * 255).round().to(torch.uint8).movedim(0, -1), torch.from_numpy(array)
    )
    write_image(image, tmp_path / "b.png")
    assert torch.equal(read_image(tmp_path / "b.png"), image)


def test_grey_alpha_palette_16_bit_and_orientation(tmp_path):
    save(noise(8, 6), tmp_path / "grey.png")
    save(noise(8, 6, 4), tmp_path / "alpha.png")
    Image.fromarray(noise(8, 6, 3)).convert("P").save(tmp_path / "palette.png")
    save((np.arange(48, dtype=np.uint16) * 1300).reshape(8, 6), tmp_path / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    save(noise(8, 6, 3), tmp_path / "turned.jpg", exif=exif)
    shapes = {path.stem: tuple(read_image(path).shape) for path in list_images(tmp_path)}
    assert shapes == {
        "alpha": (3, 8, 6),
        "deep": (3, 8, 6),
        "grey": (3, 8, 6),
        "palette": (3, 8, 6),
        "turned": (3, 6, 8),
    }
    deep = read_image(tmp_path / "deep.png")
    assert abs(deep.max().item() - 47 * 1300 / 65535) < 1 / 255 and torch.equal(deep[0], deep[2])


def test_files_that_are_no_images(tmp_path):
    truncate(tmp_path / "short.jpg")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("hello")
    for path in [*list_images(tmp_path), tmp_path / "missing.png"]:
        with pytest.raises(CliplitError) as error:
            read_image(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_folders_without_images(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(CliplitError, match="no images here"):
        list_images(tmp_path)
    with pytest.raises(CliplitError, match="no such folder"):
        list_images(tmp_path / "nowhere")


def test_own_folders(folders, tmp_path):
    run = start_run("smoke", tmp_path / "run", overrides=options(folders))
    record = prepare_data(run)
    backlit, well_lit = training_images(run)
    assert len(backlit) == len(well_lit) == 3 and backlit.batch([0, 2]).shape == (2, 3, 64, 64)
    assert [test.name for test in run_images.test_images(run)] == ["0", "1", "2"] and run_images.test_images(run)[
        0
    ].reference.shape == (3, 20, 30)
    assert record["training"]["backlit"][0]["sha256"] and record["skipped"] == []


def test_a_run_keeps_its_copies_when_folders_change_or_go(folders, tmp_path):
    run = start_run("smoke", tmp_path / "run", overrides=options(folders))
    prepare_data(run)
    before = [test.backlit for test in run_images.test_images(run)]
    (folders / "well" / ".DS_Store").touch()
    os.utime(next((folders / "test").iterdir()))
    assert run_images.changed_sources(Run.open(run.path)) == []
    save(noise(20, 30, 3, seed=9), folders / "well" / "new.png")
    assert run_images.changed_sources(Run.open(run.path)) == [str(folders / "well" / "new.png")]
    for kind in ("backlit", "well", "test", "reference"):
        (folders / kind).rename(tmp_path / f"{kind} moved")
    run = start_run(run=run.path)
    prepare_data(run)
    assert len(training_images(run)[1]) == 3 and len(run_images.changed_sources(run)) > 10
    after = [test.backlit for test in run_images.test_images(run)]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_truncated_training_image(folders, tmp_path):
    truncate(folders / "backlit" / "bad.jpg")
    with pytest.raises(CliplitError, match="bad.jpg: cannot be read as an image.*--skip-bad"):
        prepare_data(start_run("smoke", tmp_path / "run", overrides=options(folders)))
    run = start_run("smoke", tmp_path / "run", overrides=options(folders, **{"data.skip_bad": True}))
    assert "bad.jpg" in prepare_data(run)["skipped"][0] and len(training_images(run)[0]) == 3


def test_truncated_test_image_is_named_and_left_out(folders, tmp_path):
    truncate(folders / "test" / "bad.jpg")
    truncate(folders / "reference" / "bad.jpg")
    run = start_run("smoke", tmp_path / "run", overrides=options(folders))
    assert "bad.jpg" in prepare_data(run)["skipped"][0] and len(run_images.test_images(run)) == 3


@pytest.mark.parametrize("side", ["test", "reference"])
def test_an_unreadable_test_image_without_partner_is_named_and_left_out(folders, tmp_path, side):
    truncate(folders / side / "bad.jpg")
    run = start_run("smoke", tmp_path / "run", overrides=options(folders))
    skipped = prepare_data(run)["skipped"]
    assert len(skipped) == 1 and str(folders / side / "bad.jpg") in skipped[0] and len(run_images.test_images(run)) == 3


def test_an_unreadable_test_image_and_no_references_at_all(folders, tmp_path):
    truncate(folders / "test" / "bad.jpg")
    run = start_run("smoke", tmp_path / "run", overrides=options(folders, **{"data.test_reference": ""}))
    assert "bad.jpg" in prepare_data(run)["skipped"][0] and len(run_images.test_images(run)) == 3


def test_no_readable_test_image(folders, tmp_path):
    for n in range(3):
        (folders / "test" / f"{n}.png").write_bytes(b"x")
        (folders / "reference" / f"{n}.png").unlink()
    truncate(folders / "reference" / "bad.jpg")
    with pytest.raises(CliplitError, match="none of the test images can be read; the first: .*bad.jpg"):
        prepare_data(start_run("smoke", tmp_path / "run", overrides=options(folders)))


def test_references_that_do_not_match(folders, tmp_path):
    save(noise(20, 30, 3), folders / "test" / "alone.png")
    with pytest.raises(CliplitError, match=r"1 without partner in .*reference \(alone\)"):
        prepare_data(start_run("smoke", tmp_path / "run", overrides=options(folders)))


def test_references_of_another_size(folders, tmp_path):
    save(noise(21, 30, 3), folders / "reference" / "1.png")
    with pytest.raises(CliplitError, match="sizes differ .30x20 and 30x21."):
        prepare_data(start_run("smoke", tmp_path / "run", overrides=options(folders)))


def test_two_images_of_one_stem(folders, tmp_path):
    save(noise(20, 30, 3), folders / "test" / "1.jpg")
    with pytest.raises(CliplitError, match=r"1\.jpg and .*1\.png have the same stem"):
        prepare_data(start_run("smoke", tmp_path / "run", overrides=options(folders)))


def test_one_training_folder_alone(folders, tmp_path):
    with pytest.raises(CliplitError, match="--backlit and --well-lit go together"):
        prepare_data(start_run("smoke", tmp_path / "run", overrides={"data.backlit": str(folders / "backlit")}))


def test_embedded_photos_for_training_and_test_differ():
    assert not set(demo_images.TEST) & {*Data().embedded_backlit, *Data().embedded_well_lit}
    assert not set(Data().embedded_backlit) & set(Data().embedded_well_lit)


def test_embedded_images_are_darker_where_backlit_and_the_same_every_time():
    pairs, again = (demo_images.test_pairs(SMOKE) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(pairs, again, strict=True))
    darker = pairs[0] < 0.6 * pairs[1]
    assert (darker.float().mean((1, 2, 3)) > 0.2).all() and darker.float().mean() < 0.9


def test_images_of_kinds_that_are_not_read_are_named(folders, tmp_path):
    for kind, name in (("backlit", "phone.heic"), ("well", "drawing.psd"), ("test", "camera.nef")):
        (folders / kind / name).write_bytes(b"anything")
    skipped = prepare_data(start_run("smoke", tmp_path / "run", overrides=options(folders)))["skipped"]
    assert [line.split(": ")[0] for line in skipped] == [
        str(folders / "backlit" / "phone.heic"),
        str(folders / "well" / "drawing.psd"),
        str(folders / "test" / "camera.nef"),
    ]
    assert "cliplit enhance FILE -o FILE.png --strength 0" in skipped[0] and "convert it to PNG" in skipped[1]


def test_a_stage_that_another_process_finished_meanwhile_is_kept(tmp_path):
    early = start_run("smoke", tmp_path / "run")
    assert early.finished() == []  # as a notebook that was opened before
    prepare_data(Run.open(early.path))
    before = (early.path / "data" / "stage.json").read_bytes()
    prepare_data(early)
    assert (early.path / "data" / "stage.json").read_bytes() == before
