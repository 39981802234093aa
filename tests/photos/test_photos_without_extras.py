"""The photo tool without imagecodecs, pillow-heif and rawpy, the libraries of the extra `photos`."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from field_files import CASES
from photo_files import contents, picture
from PIL import Image

BLOCKED = """
import sys
sys.modules.update(dict.fromkeys(["imagecodecs", "pillow_heif", "rawpy"]))
from cliplit.cli.app import main
main()
"""
REMEDY = "pip install 'cliplit[photos]'"


def without_extras(*arguments, checkpoint) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", BLOCKED, "enhance", *map(str, arguments), "--checkpoint", str(checkpoint)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def test_what_needs_no_extra_comes_out_the_same_and_the_rest_is_named(enhance, tmp_path, checkpoint):
    photos = tmp_path / "photos"
    for extension in "jpg", "png", "webp", "tif", "bmp", "ppm", "gif", "avif":
        picture(photos / f"a.{extension}", (40, 30))
    picture(photos / "grey_alpha.png", mode="LA")
    deep = np.random.default_rng(0).integers(0, 65535, (30, 40, 3), np.uint16)
    tifffile.imwrite(photos / "deflated.tif", deep, photometric="rgb", compression="zlib", predictor=True)
    for name in "deep_colour.png", "deep_grey_alpha.png", "clear_grey_16.png":
        (photos / name).write_bytes(CASES[name].make()[0])
    assert enhance(photos, "-o", tmp_path / "with")[0] == 0
    (photos / "a.heic").write_bytes(CASES["turned_1.heic"].make()[0])
    (photos / "a.dng").write_bytes(CASES["turned.dng"].make()[0])
    tifffile.imwrite(photos / "lzw.tif", deep, photometric="rgb", compression="lzw")
    call = without_extras(photos, "-o", tmp_path / "without", checkpoint=checkpoint)
    said = call.stderr.splitlines()
    assert call.returncode == 2 and said[-1] == "13 photos enhanced; 3 problems" and "Traceback" not in call.stderr
    assert (tifffile.imread(tmp_path / "with/deflated.tif") == tifffile.imread(tmp_path / "without/deflated.tif")).all()
    (tmp_path / "with" / "deflated.tif").unlink()  # deflated by another library: other bytes
    (tmp_path / "without" / "deflated.tif").unlink()
    assert contents(tmp_path / "with") == contents(tmp_path / "without")
    for name in "a.heic", "a.dng", "lzw.tif":
        (line,) = [line for line in said if f"{photos / name}: " in line]
        assert line.endswith(REMEDY), line


@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_tiff_is_deflated_where_its_own_compression_is_missing(tmp_path, dtype):
    write = f"""
import sys
sys.modules["imagecodecs"] = None
import numpy as np
from pathlib import Path
from cliplit_photos.formats import Photo, write_photo
write_photo(Photo(np.ones((300, 40, 3), "{dtype}"), options={{"compression": 32773}}), Path(sys.argv[1]), "TIFF")
"""
    subprocess.run([sys.executable, "-c", write, tmp_path / "a.tif"], check=True)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.pages[0].compression.name == "ADOBE_DEFLATE" and (tiff.asarray() == 1).all()


def test_a_result_in_a_format_that_needs_an_extra_is_refused(tmp_path, checkpoint):
    photo = picture(tmp_path / "a.png")
    call = without_extras(photo, "-o", tmp_path / "b.heic", checkpoint=checkpoint)
    assert call.returncode == 2 and not (tmp_path / "b.heic").exists()
    assert f"{photo}: cannot be written as HEIF (this format needs pillow_heif: {REMEDY})" in call.stderr
    assert Image.open(photo).size == (30, 20)
