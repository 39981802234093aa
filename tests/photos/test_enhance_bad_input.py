"""`cliplit enhance` and what is wrong with its input: one line that says so, the good photos done, nothing half-written."""

import errno
import os
import pickle
import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from photo_files import contents, partial, picture
from PIL import Image

from cliplit_photos import batch


@pytest.fixture
def refused(enhance, tmp_path):
    """The line with which the command refuses everything."""

    def call(*arguments) -> str:
        code, out, err = enhance(*arguments, "-o", tmp_path / "out")
        assert (code, out, len(err)) == (2, [], 1) and err[0].startswith("cliplit: error: ")
        assert not (tmp_path / "out").exists()
        return err[0]

    return call


@pytest.fixture
def problem(enhance, tmp_path):
    """The line about one bad photo, beside which a good one is done; and nothing else is written."""

    def call(path, *options) -> str:
        good = picture(tmp_path / "good.png")
        out = tmp_path / f"out-{path.stem}-{len(list(tmp_path.iterdir()))}"
        code, shown, err = enhance(good, path, "-o", out, *options)
        assert code == 2 and shown == [str(out)] and contents(out).keys() == {"good.png"} and not partial(out)
        assert err[-3:-1][0] == "not enhanced: 1" and err[-1] == "1 photo enhanced; 1 problem"
        assert not any("Traceback" in line for line in err) and err[-2].startswith(f"  {path}: ")
        return err[-2]

    return call


@pytest.fixture
def done(enhance, tmp_path):
    """The result of one odd photo, and what was said of it."""

    def call(path):
        code, _, err = enhance(path, "-o", tmp_path / "out")
        assert code == 0, err
        (result,) = (tmp_path / "out").glob(f"{path.name}*")
        return Image.open(result), err[1:-1]

    return call


def test_paths_that_are_not_there(refused, tmp_path):
    assert "none.jpg: no such file or folder" in refused(tmp_path / "none.jpg")
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'}: no images here" in refused(tmp_path / "empty")
    (tmp_path / "empty" / "notes.txt").write_text("text")
    assert "no images here" in refused(tmp_path / "empty")


def test_a_photo_that_goes_away_or_may_not_be_read(problem, tmp_path, monkeypatch):
    path = picture(tmp_path / "secret.jpg")
    opened = open

    def forbidden(file, *arguments, **options):
        if os.fspath(file) == str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return opened(file, *arguments, **options)

    monkeypatch.setattr("builtins.open", forbidden)
    assert "Permission denied" in problem(path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read and write everything")
def test_permissions(problem, enhance, tmp_path):
    path = picture(tmp_path / "secret.jpg")
    path.chmod(0)
    assert "Permission denied" in problem(path)
    (tmp_path / "locked").mkdir(0o500)
    code, _, err = enhance(tmp_path / "good.png", "-o", tmp_path / "locked")
    assert code == 2 and "cannot be written to" in err[-1]


def test_files_that_are_no_photos(problem, tmp_path):
    for name, content in {
        "zero.jpg": b"",
        "text.jpg": b"a text",
        "folder.png": b"\x89PNG\r\n\x1a\n",
        "t.tif": b"II*\0",
    }.items():
        (tmp_path / name).write_bytes(content)
        line = problem(tmp_path / name)
        assert "not an image" in line or "cannot be read as an image" in line, line


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.bmp", "deep.png", "deep.tif", "float.tif"])
@pytest.mark.parametrize("kept", [0.5, 0.95])
def test_truncated_files(problem, tmp_path, name, kept):
    path = tmp_path / name
    random = np.random.default_rng(0)
    if name == "float.tif":
        tifffile.imwrite(path, random.random((40, 40, 3), np.float32), photometric="rgb")
    elif name == "deep.tif":
        tifffile.imwrite(path, random.integers(0, 65535, (40, 40, 3), np.uint16), photometric="rgb", compression="zlib")
    elif name == "deep.png":
        Image.fromarray(random.integers(0, 65535, (40, 40), np.uint16)).save(path)
    else:
        picture(path, (40, 40))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert "repair or remove the file" in problem(path) or "not an image" in problem(path)


@pytest.mark.parametrize("size", [(1, 1), (1, 20000), (20000, 1), (2, 1)])
def test_odd_sizes(done, tmp_path, size):
    image, said = done(picture(tmp_path / "odd.png", size))
    assert image.size == size and not said


def test_odd_kinds(done, tmp_path):
    Image.new("CMYK", (9, 8), (0, 90, 90, 10)).save(tmp_path / "c.jpg")
    image, said = done(tmp_path / "c.jpg")
    assert (image.mode, image.size, said) == ("RGB", (9, 8), ["CMYK converted to RGB without a profile: c.jpg"])
    picture(tmp_path / "p.png").write_bytes(_saved(Image.new("P", (9, 8)), tmp_path / "p.png"))
    image, said = done(tmp_path / "p.png")
    assert (image.mode, said) == ("RGB", [])
    frames = [Image.new("RGB", (9, 8), colour) for colour in ("maroon", "navy")]
    for extension, kind in ("gif", "PNG"), ("webp", "WEBP"):
        frames[0].save(tmp_path / f"f.{extension}", save_all=True, append_images=frames[1:])
        image, said = done(tmp_path / f"f.{extension}")
        assert image.format == kind and said == [f"first of several pictures taken: f.{extension}"]
        red, _, blue = np.asarray(image.convert("RGB"), float).mean((0, 1))
        assert red > blue


def _saved(image: Image.Image, path) -> bytes:
    image.save(path)
    return path.read_bytes()


def test_numbers_that_are_none(problem, tmp_path):
    for name, value in ("nan.tif", np.nan), ("inf.tif", -np.inf):
        values = np.full((8, 8, 3), 0.5, np.float32)
        values[3, 3, 0] = value
        tifffile.imwrite(tmp_path / name, values, photometric="rgb")
        assert "NaN or infinite" in problem(tmp_path / name)


def test_layouts_that_are_not_known(problem, tmp_path):
    for name, dtype, kind in ("i.tif", np.int32, "minisblack"), ("cmyk.tif", np.uint16, "separated"):
        shape = (8, 8) if kind == "minisblack" else (8, 8, 4)
        tifffile.imwrite(tmp_path / name, np.ones(shape, dtype), photometric=kind)
        assert "is not supported; convert it" in problem(tmp_path / name)


def test_a_decompression_bomb_and_how_to_lift_the_limit(problem, enhance, tmp_path, monkeypatch):
    header = struct.pack(">IIBBBBB", 40_000, 30_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    line = problem(tmp_path / "bomb.png")
    assert "40000 x 30000 pixels are above the limit of 268435456" in line and "--max-pixels" in line
    path = picture(tmp_path / "large.png", (40, 30))
    assert "above the limit of 1000" in problem(path, "--max-pixels", 1000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's own limit does not stand in the way
    assert enhance(path, "-o", tmp_path / "lifted", "--max-pixels", 1200)[0] == 0
    assert Image.MAX_IMAGE_PIXELS == 100


def test_a_full_disk_ends_the_run_and_leaves_nothing_half_written(enhance, tmp_path, monkeypatch):
    for n in range(6):
        picture(tmp_path / "photos" / f"{n}.png", seed=n)
    write = batch.write_photo
    written = []

    def full(photo, path, kind):
        written.append(path)
        if len(written) > 3:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(photo, path, kind)

    monkeypatch.setattr(batch, "write_photo", full)
    code, out, err = enhance(tmp_path / "photos", "-o", tmp_path / "out", "--jobs", 1)
    assert code == 2 and out == [] and "No space left on device" in err[-1] and "again to resume" in err[-1]
    there = contents(tmp_path / "out")
    assert len(there) == 3 and not partial(tmp_path / "out") and "3 of 6 photos are done" in err[-1]
    monkeypatch.undo()
    code, _, err = enhance(tmp_path / "photos", "-o", tmp_path / "out")
    assert code == 0 and "3 photos enhanced; 3 were already done" in err[-1]


def test_places_that_cannot_be_written(enhance, tmp_path, monkeypatch):
    path = picture(tmp_path / "a.png")
    (tmp_path / "file").touch()
    code, _, err = enhance(path, "-o", tmp_path / "file" / "out")
    assert code == 2 and "cannot be written to (Not a directory)" in err[-1]

    def read_only(**_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(batch, "TemporaryFile", read_only)
    monkeypatch.setattr(batch, "enhance_pixels", None)  # it is found out before anything is computed
    code, _, err = enhance(path, "-o", tmp_path / "out")
    assert code == 2 and "cannot be written to (Read-only file system)" in err[-1]


def test_a_photo_larger_than_its_format(problem, enhance, tmp_path):
    path = picture(tmp_path / "long.png", (17_000, 1))
    code, _, err = enhance(path, "-o", tmp_path / "long.webp")
    assert (
        code == 2 and any("cannot be written as WEBP" in line for line in err) and not (tmp_path / "long.webp").exists()
    )


def test_checkpoints_that_are_none(cli, tmp_path, checkpoint):
    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    (tmp_path / "code.pth").write_bytes(pickle.dumps({"cond1.weight": Bomb()}))
    torch.save({"cond1.weight": Bomb()}, tmp_path / "zipped.pth")
    torch.save({"head.weight": torch.zeros(3)}, tmp_path / "foreign.pth")
    (tmp_path / "zero.pth").touch()
    (tmp_path / "text.pth").write_text("no checkpoint")
    (tmp_path / "cut.safetensors").write_bytes(checkpoint.read_bytes()[:5000])
    (tmp_path / "empty.safetensors").touch()
    swapped = checkpoint.read_bytes().replace(b'\\\\\\"width\\\\\\": 8', b'\\\\\\"depth\\\\\\": 8')
    assert swapped != checkpoint.read_bytes()
    (tmp_path / "other.safetensors").write_bytes(swapped)
    photo = picture(tmp_path / "a.png")
    for path in [*tmp_path.glob("*.pth"), *tmp_path.glob("*.safetensors"), tmp_path / "none.pth", tmp_path]:
        code, out, err = cli("enhance", photo, "-o", tmp_path / "out", "--checkpoint", path)
        assert (code, out, len(err)) == (2, [], 1) and str(path) in err[0], path
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out").exists()


def test_options_that_make_no_sense(refused, tmp_path):
    path = picture(tmp_path / "a.png")
    assert "--max-memory much" in refused(path, "--max-memory", "much")
    assert "'precision' must be fp32 or bf16, got fp8" in refused(path, "--precision", "fp8")
    assert "strength" in refused(path, "--strength", -1)
    assert "device 'toaster' cannot be used here" in refused(path, "--device", "toaster")
