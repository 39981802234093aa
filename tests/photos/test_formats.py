"""Photo files: pixels, depth, transparency, metadata and profile survive, read back by other means than ours."""

import errno
import io
import itertools
import signal
import struct
import sys

import cv2
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms, ImageOps, TiffImagePlugin

from cliplit.errors import CliplitError
from cliplit.files.images import decode
from cliplit_photos.formats import FORMATS, Photo, photo_size, read_photo, reduced, write_photo

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
TAKEN = "2023:10:02 09:30:00"
SIZE = (21, 34)  # height, width
LOSSY = 5  # steps of 8 bits, on the mean, that writing JPEG or WebP again may cost


def values(channels: int, dtype=np.uint8, size=SIZE, seed: int = 0) -> np.ndarray:
    """(H, W, C) random values over the whole range of a type."""
    random = np.random.default_rng(seed).random((*size, channels))
    return random.astype(np.float32) if dtype == np.float32 else (random * np.iinfo(dtype).max).round().astype(dtype)


def exif(orientation: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Make] = "A maker"
    tags[ExifTags.Base.Orientation] = orientation
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = TAKEN
    tags.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return tags


def check_metadata(path, kind: str) -> None:
    with Image.open(path) as image:
        tags = image.getexif()
        assert tags[ExifTags.Base.Make] == "A maker" and tags.get(ExifTags.Base.Orientation, 1) == 1, kind
        assert tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] == TAKEN, kind
        assert tags.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N", kind
        assert image.info["icc_profile"] == PROFILE, kind


def rewritten(source, target=None):
    """A file read and written again; where it is now, and what was said."""
    target = target or source.with_name(f"again-{source.name}")
    photo = read_photo(source)
    return target, photo.notes + write_photo(photo, target, FORMATS[target.suffix])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "tif"])
def test_eight_bits_upright_with_metadata(tmp_path, extension, orientation):
    source = tmp_path / f"a.{extension}"
    options = {"quality": 100} if extension in ("jpg", "webp") else {}
    smooth = Image.fromarray(values(3, size=(4, 5))).resize(SIZE[::-1], Image.Resampling.BICUBIC)
    smooth.save(source, exif=exif(orientation).tobytes(), icc_profile=PROFILE, **options)
    target, notes = rewritten(source)
    upright = ImageOps.exif_transpose(Image.open(source))
    with Image.open(target) as image:
        assert image.size == upright.size and image.mode == "RGB" and not notes
        off = np.abs(np.asarray(image).astype(int) - np.asarray(upright))
    assert off.mean() <= (LOSSY if options else 0)
    check_metadata(target, extension)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P"])
def test_grey_stays_grey_and_palettes_become_colours(tmp_path, mode):
    picture = Image.fromarray(values(4), "RGBA").convert("RGB").convert(mode) if mode in "1LP" else None
    picture = picture or Image.fromarray(values(len(mode))).convert(mode)
    picture.save(tmp_path / "a.png")
    target, notes = rewritten(tmp_path / "a.png")
    expected = picture.convert({"1": "L", "P": "RGB"}.get(mode, mode))
    with Image.open(target) as image:
        assert image.mode == expected.mode and not notes and np.array_equal(np.asarray(image), np.asarray(expected))


def test_a_transparent_colour_becomes_alpha(tmp_path):
    for mode, transparency in ("P", 3), ("L", 7), ("RGB", (0, 0, 0)):
        picture = Image.new(mode, (4, 4))
        picture.save(tmp_path / "a.png", transparency=transparency)
        target, _ = rewritten(tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as source, Image.open(target) as image:
            assert image.mode == ("LA" if mode == "L" else "RGBA")
            assert np.array_equal(np.asarray(image.convert("RGBA")), np.asarray(source.convert("RGBA"))), mode


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_of_png(tmp_path, channels):
    deep = values(channels, np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), deep[..., [2, 1, 0, 3][:channels]] if channels > 1 else deep)
    target, notes = rewritten(tmp_path / "a.png")
    again = cv2.imread(str(target), cv2.IMREAD_UNCHANGED).reshape(deep.shape)
    assert again.dtype == np.uint16 and not notes
    assert np.array_equal(again[..., [2, 1, 0, 3][:channels]] if channels > 1 else again, deep)


def test_sixteen_bits_of_ppm(tmp_path):
    for channels, magic in (3, b"P6"), (1, b"P5"):
        deep = values(channels, np.uint16)
        (tmp_path / "a.ppm").write_bytes(magic + b" %d %d 65535\n" % SIZE[::-1] + deep.astype(">u2").tobytes())
        target, notes = rewritten(tmp_path / "a.ppm")
        again = cv2.imread(str(target), cv2.IMREAD_UNCHANGED).reshape(deep.shape)
        assert np.array_equal(again[..., ::-1], deep) and not notes


TIFFS = list(itertools.product([np.uint8, np.uint16, np.float32], [1, 2, 3, 4], [None, "zlib"]))


@pytest.mark.parametrize("dtype, channels, compression", TIFFS)
def test_tiff_of_every_depth(tmp_path, dtype, channels, compression):
    source = tmp_path / "a.tif"
    pixels = values(channels, dtype, (300, 7))  # more than one strip
    kind = "minisblack" if channels < 3 else "rgb"
    extra = ["unassalpha"] if channels % 2 == 0 else None
    shaped = pixels[..., 0] if channels == 1 else pixels
    options = {"compression": compression, "iccprofile": PROFILE, "resolution": (300, 300), "metadata": None}
    planes = None if channels == 1 else "contig"
    tifffile.imwrite(source, shaped, photometric=kind, planarconfig=planes, extrasamples=extra, **options)
    target, notes = rewritten(source)
    with tifffile.TiffFile(target) as tiff:
        page = tiff.pages[0]
        assert np.array_equal(page.asarray(), shaped) and page.dtype == dtype and not notes
        assert (page.compression != 1) == bool(compression) and page.get_resolution("inch") == (300, 300)
        assert page.tags["InterColorProfile"].value == PROFILE


def test_metadata_of_sixteen_bits(tmp_path):
    block = exif().tobytes().removeprefix(b"Exif\0\0")
    photo = Photo(values(3, np.uint16), icc=PROFILE, exif=block, options={"dpi": (300.0, 300.0)})
    for name in ("a.tif", "a.png"):
        write_photo(photo, tmp_path / name, FORMATS[tmp_path.joinpath(name).suffix])
        for path in (tmp_path / name, rewritten(tmp_path / name)[0]):
            check_metadata(path, name)
            assert Image.open(path).info["dpi"] == pytest.approx((300, 300), abs=0.01)
            assert np.array_equal(read_photo(path).pixels, photo.pixels)


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_lzw_and_orientation_of_sixteen_bits(tmp_path, compression, orientation):
    grey = values(1, np.uint16)[..., 0]
    tags = exif(orientation)
    Image.fromarray(grey).save(tmp_path / "a.tif", compression=compression, tiffinfo={274: tags[274]})
    photo = read_photo(tmp_path / "a.tif")
    assert np.array_equal(photo.pixels[..., 0], np.rot90(grey, {3: 2, 6: -1}[orientation]))


def test_separate_planes_and_white_is_zero(tmp_path):
    deep = values(3, np.uint16)
    planes = np.ascontiguousarray(deep.transpose(2, 0, 1))
    tifffile.imwrite(tmp_path / "planes.tif", planes, photometric="rgb", planarconfig="separate", metadata=None)
    assert np.array_equal(read_photo(tmp_path / "planes.tif").pixels, deep)
    tifffile.imwrite(tmp_path / "white.tif", deep[..., 0], photometric="miniswhite", metadata=None)
    assert np.array_equal(read_photo(tmp_path / "white.tif").pixels[..., 0], 65535 - deep[..., 0])


def test_jpeg_keeps_the_sampling_of_its_source(tmp_path):
    for sampling, said in ("4:2:0", 2), ("4:4:4", 0):
        Image.fromarray(values(3)).save(tmp_path / "a.jpg", subsampling=sampling)
        with Image.open(rewritten(tmp_path / "a.jpg")[0]) as image:
            assert image.layer[0][1:3] == ((2, 2) if said else (1, 1))
    Image.fromarray(values(3)).save(tmp_path / "b.png")
    with Image.open(rewritten(tmp_path / "b.png", tmp_path / "b.jpg")[0]) as image:
        assert image.layer[0][1:3] == (1, 1)


def test_what_a_format_cannot_hold_is_said(tmp_path):
    photo = Photo(values(3, np.uint16), values(1, np.uint16)[..., 0])
    notes = write_photo(photo, tmp_path / "a.jpg", "JPEG")
    assert len(notes) == 2 and "8 bits" in notes[0] and "transparency" in notes[1]
    floats = Photo(values(3, np.float32))
    assert "16 bits" in write_photo(floats, tmp_path / "a.png", "PNG")[0]
    off = read_photo(tmp_path / "a.png").pixels / 65535 - floats.pixels
    assert np.abs(off).max() <= 0.51 / 65535


def test_cmyk_is_converted_and_said(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    photo = read_photo(tmp_path / "a.jpg")
    assert (
        photo.notes == ["CMYK converted to RGB without a profile"]
        and np.abs(photo.pixels.astype(int) - [255, 0, 0]).max() < 4
    )


@pytest.mark.parametrize("extension", ["gif", "webp", "tif"])
def test_the_first_of_several_pictures(tmp_path, extension):
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / f"a.{extension}", save_all=True, append_images=frames[1:])
    photo = read_photo(tmp_path / f"a.{extension}")
    others = ", without page 2 (9 x 9), page 3 (9 x 9)" if extension == "tif" else ""
    assert photo.notes == ["first of several pictures taken" + others]
    assert np.abs(photo.pixels.astype(int) - [255, 0, 0]).max() < 8


def test_broken_exif_is_no_reason_to_fail(tmp_path):
    block = bytearray(exif().tobytes())
    block[20:60] = bytes(range(200, 240))
    Image.fromarray(values(3)).save(tmp_path / "a.jpg", exif=bytes(block))
    assert rewritten(tmp_path / "a.jpg")[0].is_file()


def test_a_stale_thumbnail_is_dropped(tmp_path):
    thumbnail = io.BytesIO()
    Image.new("RGB", (40, 30)).save(thumbnail, "JPEG")
    first, second = (TiffImagePlugin.ImageFileDirectory_v2() for _ in range(2))
    first[ExifTags.Base.Make] = "A maker"
    block = bytearray(first.tobytes(8))
    struct.pack_into("<L", block, 2 + 12 * len(first), 8 + len(block))  # where the next directory is
    second[ExifTags.Base.JpegIFOffset] = 0
    second[ExifTags.Base.JpegIFByteCount] = len(thumbnail.getvalue())
    second[ExifTags.Base.JpegIFOffset] = 8 + len(block) + len(second.tobytes(8 + len(block)))
    whole = b"Exif\0\0II*\0\x08\0\0\0" + block + second.tobytes(8 + len(block)) + thumbnail.getvalue()
    Image.fromarray(values(3)).save(tmp_path / "a.jpg", exif=bytes(whole))
    target, _ = rewritten(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as source, Image.open(target) as image:
        assert source.getexif().get_ifd(ExifTags.IFD.IFD1) and not image.getexif().get_ifd(ExifTags.IFD.IFD1)
        assert image.getexif()[ExifTags.Base.Make] == "A maker"


@pytest.mark.skipif(sys.platform == "win32", reason="limits of processes")
@pytest.mark.parametrize("kind", sorted(set(FORMATS.values())))
def test_what_cannot_be_written_whole_says_why(tmp_path, kind):
    """On a full disk the run must end, which is known by the error's number."""
    import resource

    pixels = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1][1]))
    try:
        with pytest.raises(OSError) as raised:
            write_photo(Photo(pixels, kind=kind), tmp_path / "a", kind)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before[1])
        signal.signal(signal.SIGXFSZ, before[0])
    assert raised.value.errno in (errno.EFBIG, errno.ENOSPC)


def test_reduced_is_small_and_eight_bits():
    for dtype, channels in (np.uint8, 3), (np.uint16, 1), (np.float32, 3):
        small = reduced(values(channels, dtype, (900, 70)), 100)
        assert small.size == (8, 100) and small.mode == "RGB"


def test_refusals(tmp_path):
    tifffile.imwrite(tmp_path / "integers.tif", values(1, np.uint16)[..., 0].astype(np.int32), metadata=None)
    deep = values(4, np.uint16)
    tifffile.imwrite(tmp_path / "cmyk16.tif", deep, photometric="separated", metadata=None)
    for value in (np.nan, np.inf):
        floats = values(3, np.float32)
        floats[3, 4, 1] = value
        tifffile.imwrite(tmp_path / f"{value}.tif", floats, photometric="rgb", metadata=None)
    tifffile.imwrite(tmp_path / "wide.tif", values(3, np.float32) * 3 - 1, photometric="rgb", metadata=None)
    for name, why in {
        "integers.tif": "int32",
        "cmyk16.tif": "16-bit uint16 in separated colours",
        "nan.tif": "NaN or infinite",
        "inf.tif": "infinite",
    }.items():
        with pytest.raises(CliplitError, match=why) as refused:
            read_photo(tmp_path / name)
        assert str(refused.value).startswith(str(tmp_path / name))
    wide = read_photo(tmp_path / "wide.tif")
    assert wide.notes == ["values outside [0, 1] clipped"] and wide.pixels.min() == 0 and wide.pixels.max() == 1


def raw_photo(path, orientation: int = 6, tags=()):
    """A DNG of an evenly red wall, as small as LibRaw takes it."""
    rows, columns = np.mgrid[:64, :96] % 2
    mosaic = np.select([(rows == 0) & (columns == 0), (rows == 1) & (columns == 1)], [30000, 8000], 20000)
    tags = [
        *tags,
        (271, 2, 0, b"A maker\0", True),
        (ExifTags.Base.Orientation, 3, 1, orientation, True),
        (33421, 3, 2, (2, 2), True),  # CFARepeatPatternDim
        (33422, 1, 4, b"\0\1\1\2", True),  # CFAPattern: red, green, green, blue
        (50706, 1, 4, b"\1\4\0\0", True),  # DNGVersion
        (50708, 2, 0, b"A camera\0", True),
        (50721, 10, 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1), True),  # ColorMatrix1
        (50728, 5, 3, (1, 1, 1, 1, 1, 1), True),  # AsShotNeutral
    ]
    tifffile.imwrite(path, mosaic.astype(np.uint16), photometric=32803, metadata=None, software=False, extratags=tags)
    return path


def test_raw_is_developed_to_sixteen_bits_with_its_exif(tmp_path):
    pytest.importorskip("rawpy")
    source = raw_photo(tmp_path / "a.dng")
    photo = read_photo(source)
    assert photo.pixels.shape == (96, 64, 3) and photo.pixels.dtype == np.uint16 and photo_size(source) == (64, 96)
    red, green, blue = photo.pixels.reshape(-1, 3).mean(0)
    assert red > green > blue and photo.notes == ["RAW developed to 16 bits, in sRGB"]
    for ending in (".tif", ".jpg"):
        target = tmp_path / f"b{ending}"
        write_photo(photo, target, FORMATS[ending])
        with Image.open(target) as image:
            assert image.getexif()[ExifTags.Base.Make] == "A maker"
            assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    (tmp_path / "no.nef").write_bytes(b"no RAW")
    with pytest.raises(CliplitError, match=r"no\.nef: LibRaw cannot read this RAW"):
        read_photo(tmp_path / "no.nef")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}, {"quality": 30}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_of_jpeg_are_pillows(tmp_path, mode, options):
    """Metrics are calibrated on them."""
    Image.fromarray(values(3, size=(61, 47))).convert(mode).save(tmp_path / "a.jpg", **options)
    with Image.open(tmp_path / "a.jpg") as image:
        assert np.array_equal(decode(tmp_path / "a.jpg"), np.asarray(image.convert("RGB")))
