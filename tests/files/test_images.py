"""The kit's reader: every kind comes out as the pixels that were written, and what is damaged is refused in one line."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from cliplit.errors import CliplitError
from cliplit.files.images import decode, errors_named, size_in, squared, to_8_bits, upright

HEIGHT, WIDTH = 21, 34
RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
DEEP = RANDOM.integers(0, 65536, (HEIGHT, WIDTH, 4), dtype=np.uint16)
GREY = np.repeat(COLOUR[..., :1], 3, axis=2)
DEEP_GREY = np.repeat(DEEP[..., :1], 3, axis=2)
LIGHT = (DEEP[..., :3] / 65535).astype(np.float32)


def write_png(path, pixels: np.ndarray, kind: int, bits: int = 16) -> None:
    """A PNG by hand: neither Pillow nor OpenCV writes all kinds."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row.astype(">u2" if bits == 16 else "u1").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], bits, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def write_tiff(path, pixels: np.ndarray, photometric: str = "rgb", orientation: int = 1, **options) -> None:
    tifffile.imwrite(path, pixels, photometric=photometric, extratags=[(274, 3, 1, orientation, True)], **options)


def write_ppm(path, pixels: np.ndarray, white: int, comment: str = "") -> None:
    kind = "P6" if pixels.shape[2] == 3 else "P5"
    head = f"{kind}\n{comment}{pixels.shape[1]} {pixels.shape[0]}\n{white}\n".encode()
    path.write_bytes(head + pixels.astype(">u2" if white > 255 else "u1").tobytes())


def image_size(path, max_pixels=None) -> tuple[int, int]:
    with errors_named(path), open(path, "rb") as file:
        return size_in(file, max_pixels)


def check(path, expected: np.ndarray) -> None:
    pixels = decode(path)
    assert pixels.dtype == expected.dtype and pixels.flags.c_contiguous and pixels.flags.writeable
    np.testing.assert_array_equal(pixels, expected)
    assert image_size(path) == (expected.shape[1], expected.shape[0])


def refusal(path, **options) -> str:
    lines = []
    for read in (decode, image_size):
        try:
            read(path, **options)
        except CliplitError as error:
            lines.append(str(error))
    assert lines and all(line.startswith(f"{path}: ") and "\n" not in line for line in lines)
    return lines[0]


@pytest.mark.parametrize("kind, channels", [(0, [0]), (2, [0, 1, 2]), (4, [0, 3]), (6, [0, 1, 2, 3])])
@pytest.mark.parametrize("bits", [8, 16])
def test_png(tmp_path, kind, channels, bits):
    pixels = (DEEP if bits == 16 else np.dstack([COLOUR, COLOUR[..., :1]]))[..., channels]
    write_png(tmp_path / "a.png", pixels, kind, bits)
    check(tmp_path / "a.png", pixels[..., :3] if len(channels) > 2 else np.repeat(pixels[..., :1], 3, axis=2))


def test_palette_and_bilevel(tmp_path):
    palette = Image.fromarray(COLOUR).quantize(8)
    bilevel = Image.fromarray(COLOUR).convert("1")
    for image in (palette, bilevel):
        for name in ("a.png", "a.tif", "a.bmp", "a.gif"):
            image.save(tmp_path / name)
            check(tmp_path / name, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("pixels", [COLOUR, DEEP[..., :3], LIGHT], ids=["8", "16", "float"])
def test_tiff_of_all_orientations(tmp_path, pixels, orientation):
    write_tiff(tmp_path / "a.tif", pixels, orientation=orientation)
    check(tmp_path / "a.tif", upright(pixels, orientation))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_palette_tiff_is_not_scrambled(tmp_path, orientation):
    image = Image.fromarray(COLOUR).quantize(8)
    image.save(tmp_path / "a.tif", tiffinfo={274: orientation})
    check(tmp_path / "a.tif", upright(np.asarray(image.convert("RGB")), orientation))


@pytest.mark.parametrize("pixels", [COLOUR, DEEP[..., :3]], ids=["8", "16"])
def test_other_layouts_of_tiff(tmp_path, pixels):
    planes = np.moveaxis(pixels, -1, 0)
    grey = np.repeat(pixels[..., :1], 3, axis=2)
    white = np.iinfo(pixels.dtype).max
    file = tmp_path / "a.tif"
    for options in ({"compression": "zlib"}, {"tile": (16, 16)}, {"byteorder": ">"}, {"bigtiff": True}):
        write_tiff(file, pixels, **options)
        check(file, pixels)
    write_tiff(file, planes, planarconfig="separate")
    check(file, pixels)
    write_tiff(file, pixels[..., 0], "minisblack")
    check(file, grey)
    write_tiff(file, pixels[..., 0], "miniswhite")
    check(file, white - grey)
    write_tiff(file, np.dstack([pixels, pixels[..., :1]]), extrasamples=["unassalpha"])
    check(file, pixels)
    write_tiff(file, np.stack([pixels, pixels[::-1]]))  # two pages
    check(file, pixels)


def test_float_tiff(tmp_path):
    for depth in ("f2", "f4", "f8"):
        write_tiff(tmp_path / "a.tif", LIGHT.astype(depth))
        check(tmp_path / "a.tif", LIGHT.astype(depth).astype(np.float32))
    write_tiff(tmp_path / "a.tif", LIGHT[..., 0], "miniswhite")
    check(tmp_path / "a.tif", np.repeat(1 - LIGHT[..., :1], 3, axis=2))
    write_tiff(tmp_path / "a.tif", 3 * LIGHT - 1)
    check(tmp_path / "a.tif", (3 * LIGHT - 1).clip(0, 1))
    write_tiff(tmp_path / "a.tif", np.full((4, 4), np.nan, np.float32), "minisblack")
    assert "NaN or infinite" in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "pixels, options",
    [(DEEP, {"photometric": "separated"}), (DEEP[..., 0].astype("u4"), {"photometric": "minisblack"})],
)
def test_tiffs_of_other_depths_and_colours_are_refused(tmp_path, pixels, options):
    write_tiff(tmp_path / "a.tif", pixels, **options)
    assert "convert it to 16-bit RGB" in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize("comment", ["", "# of 10 bits\n"])
def test_ppm(tmp_path, comment):
    for white in (65535, 1023, 300):
        values = np.minimum(DEEP[..., :3], white)
        expected = (values * (65535 / white)).round().astype(np.uint16)
        write_ppm(tmp_path / "a.ppm", values, white, comment)
        check(tmp_path / "a.ppm", expected)
        write_ppm(tmp_path / "a.pgm", values[..., :1], white, comment)
        check(tmp_path / "a.pgm", np.repeat(expected[..., :1], 3, axis=2))
    write_ppm(tmp_path / "a.ppm", COLOUR, 255, comment)
    check(tmp_path / "a.ppm", COLOUR)


def test_cmyk_without_a_good_profile(tmp_path):
    image = Image.fromarray(COLOUR).convert("CMYK")
    for profile in (b"", b"damaged", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()):
        image.save(tmp_path / "a.jpg", icc_profile=profile)
        check(tmp_path / "a.jpg", np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB")))


def test_exif_orientation(tmp_path):
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        for name, options in (("a.png", {}), ("a.webp", {"lossless": True})):
            Image.fromarray(COLOUR).save(tmp_path / name, exif=exif, **options)
            check(tmp_path / name, upright(COLOUR, orientation))


def exif_block(*entries, values: bytes = b"") -> bytes:
    rows = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + rows + b"\0\0\0\0" + values


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0II*\0",
        b"Exif\0\0nonsense",
        exif_block((0x112, 2, 2, b"6\0\0\0")),
        exif_block((0x112, 3, 1, b"\x09\0\0\0")),
        exif_block((0x11A, 2, 3, b"72\0\0")),
    ],
    ids=["short", "nonsense", "text", "nine", "resolution"],
)
def test_damaged_exif_turns_nothing(tmp_path, exif):
    image = Image.fromarray(COLOUR)
    image.save(tmp_path / "a.jpg", exif=exif, dpi=(72, 72))
    plain = io.BytesIO()
    image.save(plain, "JPEG", dpi=(72, 72))
    check(tmp_path / "a.jpg", np.asarray(Image.open(plain)))


def kinds(folder) -> list:
    """One file of each kind."""
    image = Image.fromarray(COLOUR)
    for name in ("a.jpg", "a.png", "a.webp", "a.gif", "a.bmp", "a.avif", "a.ppm"):
        image.save(folder / name)
    write_tiff(folder / "a.tif", COLOUR)
    write_tiff(folder / "deep.tif", DEEP[..., :3])
    write_tiff(folder / "packed.tif", DEEP[..., :3], compression="zlib")
    write_tiff(folder / "float.tif", LIGHT)
    write_png(folder / "deep.png", DEEP, 6)
    write_ppm(folder / "deep.ppm", DEEP[..., :3], 1023)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
def test_truncated_files_are_refused(tmp_path, share):
    for path in kinds(tmp_path):
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(CliplitError, match=r"repair or remove the file|extra photos") as error:
            decode(path)
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_a_jpeg_without_its_end_is_refused(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-20])
    assert "truncated" in refusal(tmp_path / "a.jpg")


def test_a_deep_png_that_promises_gigabytes_is_refused_before_opencv_makes_room_for_them(tmp_path, monkeypatch):
    def fail(*_):
        raise AssertionError("OpenCV was asked")

    write_png(tmp_path / "a.png", DEEP, 6)
    content = bytearray((tmp_path / "a.png").read_bytes())
    struct.pack_into(">I", content, 33, 1 << 31)  # the length of IDAT
    (tmp_path / "a.png").write_bytes(content)
    monkeypatch.setattr("cv2.imdecode", fail)
    assert "not an image of a known format, or damaged" in refusal(tmp_path / "a.png")


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "a.jpg").write_text("These are words.")
    assert "not an image of a known format" in refusal(tmp_path / "a.jpg")
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    assert "convert it, e.g. cliplit enhance" in refusal(tmp_path / "a.heic")
    write_tiff(tmp_path / "a.nef", COLOUR)  # as the thumbnail in a RAW file
    assert ".nef files are not supported here" in refusal(tmp_path / "a.nef")
    assert "no such file" in refusal(tmp_path / "none.png")


def test_too_many_pixels(tmp_path):
    for path in kinds(tmp_path):
        line = refusal(path, max_pixels=100)
        assert f"{WIDTH} x {HEIGHT} pixels are above the limit of 100 " in line and "--max-pixels" in line
        assert decode(path, max_pixels=WIDTH * HEIGHT).shape == (HEIGHT, WIDTH, 3)


def test_8_bits_and_squares(tmp_path):
    assert np.array_equal(to_8_bits(COLOUR.astype(np.uint16) * 257), COLOUR)
    assert np.array_equal(to_8_bits((COLOUR / 255).astype(np.float32)), COLOUR)
    expected = Image.fromarray(COLOUR).resize((8, 8), Image.Resampling.LANCZOS)
    assert np.array_equal(squared(COLOUR, 8), np.asarray(expected))


ALONE = """
import sys
sys.modules |= dict.fromkeys(["imagecodecs", "pillow_heif", "rawpy"])
from pathlib import Path
from cliplit.errors import CliplitError
from cliplit.files.images import decode
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        print(path.name, decode(path).tobytes().hex())
    except CliplitError as error:
        print(path.name, str(error))
"""


def test_without_the_libraries_of_the_photo_tool(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    read = {path.name: decode(path) for path in kinds(folder)}
    write_tiff(folder / "lzw8.tif", COLOUR, compression="lzw")
    read["lzw8.tif"] = COLOUR
    write_tiff(folder / "lzw16.tif", DEEP[..., :3], compression="lzw")
    out = subprocess.run([sys.executable, "-c", ALONE, folder], capture_output=True, text=True, check=True).stdout
    found = dict(line.split(" ", 1) for line in out.splitlines())
    assert found.pop("lzw16.tif").endswith("needs the extra photos: pip install 'cliplit[photos]'")
    assert found == {name: pixels.tobytes().hex() for name, pixels in read.items()}
