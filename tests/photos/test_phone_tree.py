"""Photos as they come from a phone, in one command: what goes in comes out, or is named."""

import os
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from field_files import CASES
from field_files.parts import rgb_profile, usual_exif
from PIL import Image

from cliplit_photos.formats import FORMATS, photo_size

P3 = rgb_profile("Display P3", ((0.515, 0.241, -0.001), (0.292, 0.692, 0.042), (0.157, 0.067, 0.784)))
TWIN = bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(58)  # what macOS leaves beside a file


def scene(width: int, height: int, seed: int = 0, channels: int = 3) -> Image.Image:
    """A smooth picture, dark on its left."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 8, channels), dtype=np.uint8)
    small[:, :4, :3] //= 5
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def phone(folder: Path) -> list[str]:
    """A tree of photos with a twin of each; the names of the photos."""
    camera = folder / "DCIM" / "100APPLE"
    camera.mkdir(parents=True)
    lying = scene(320, 240)
    lying.info["icc_profile"] = P3
    pillow_heif.from_pillow(lying).save(camera / "IMG_0001.HEIC", exif=b"Exif\0\0" + usual_exif(6))
    scene(8000, 6000, 1).save(camera / "IMG_0002.JPG", quality=85)  # 48 megapixels
    (camera / "PXL_ultra.jpg").write_bytes(CASES["ultra_hdr.jpg"].make()[0])
    (camera / "PXL_motion.jpg").write_bytes(CASES["motion_photo.jpg"].make()[0])
    burst = [scene(300, 200, seed) for seed in (2, 3, 4)]
    burst[0].save(camera / "BURST.MPO", save_all=True, append_images=burst[1:])
    shots = folder / "Pictures" / "スクリーンショット"
    shots.mkdir(parents=True)
    scene(200, 430, 5, channels=4).save(shots / "画面 2026-11-25.png", icc_profile=P3)
    scene(120, 90, 6).save(shots / "🌅 at the sea (1).jpeg", quality=90)
    scene(120, 90, 7).save(shots / "shared.webp", lossless=True)
    scene(120, 90, 8).save(shots / "avif{0}.avif")
    photos = [path for path in folder.rglob("*") if path.is_file()]
    for photo in photos:
        photo.with_name(f"._{photo.name}").write_bytes(TWIN)
    return sorted(path.relative_to(folder).as_posix() for path in photos)


@pytest.mark.slow
def test_what_goes_in_comes_out_or_is_named(enhance, tmp_path):
    folder = tmp_path / "phone"
    names = phone(folder)
    named = {"broken.jpg": b"\xff\xd8\xff\xe0 cut off", "new.jxl": b"\xff\x0a"}
    others = ("DCIM/100APPLE/IMG_0002.MOV", "DCIM/100APPLE/IMG_0001.AAE", "Thumbs.db", ".thumbnails/1.jpg")
    for name, content in named.items() | dict.fromkeys(others, b"\xff\xd8").items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    out = tmp_path / "out"
    code, _, err = enhance(folder, "-o", out, "--recursive")
    results = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.suffix.lower() in FORMATS)
    assert code == 2 and results == names, err
    for name in named:
        assert any(name in line for line in err)
    # The hidden folder counts as one; a twin for every photo.
    ignored = len(names) + len(others)
    assert f"{len(names)} photos enhanced; {len(named)} problems; {ignored} other files ignored" in err[-1], err[-1]
    for name in names:
        assert photo_size(out / name) == photo_size(folder / name), name
    with Image.open(out / names[names.index("Pictures/スクリーンショット/画面 2026-11-25.png")]) as shot:
        assert shot.mode == "RGBA" and shot.info["icc_profile"] == P3
    phone_photo = pillow_heif.open_heif(out / "DCIM/100APPLE/IMG_0001.HEIC")
    assert phone_photo.size == (240, 320) and phone_photo.info["icc_profile"] == P3
    said = "\n".join(err)
    assert "first of several pictures taken: " in said and "a film, or data of the maker" in said
    before = {path: os.stat(path).st_mtime_ns for path in out.rglob("*")}
    assert enhance(folder, "-o", out, "--recursive")[0] == 2  # nothing is made twice
    assert before == {path: os.stat(path).st_mtime_ns for path in before}
