"""`cliplit.write_image` writes whatever `cliplit.enhance` returns, as `cliplit enhance` writes its results."""

import io
import warnings

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms

import cliplit
from cliplit.errors import CliplitError
from cliplit.method.checkpoints import load_enhancer
from cliplit_photos.formats import FORMATS, Photo, read_photo, write_photo

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LOSSLESS = (".png", ".tif", ".bmp", ".ppm")
LOSSY = (".jpg", ".webp", ".heic", ".avif")
OFF = 6.0  # steps of 8 bits, on the mean, that a lossy format may cost
Y, X = np.mgrid[:40, :56]
EIGHT = np.stack([30 + 2 * Y, 20 + 3 * X, 200 - 2 * X], -1).astype(np.uint8)
TENSOR = torch.from_numpy(EIGHT).movedim(-1, 0)
IMAGES = {
    "array": EIGHT,
    "floats": (EIGHT / 255).astype(np.float32),
    "doubles": EIGHT / 255,
    "other byte order": (EIGHT / 255).astype(">f4"),
    "16 bits": EIGHT.astype(np.uint16) * 257,
    "turned": np.rot90(np.rot90(EIGHT)[:, :, ::1], -1),
    "tensor of uint8": TENSOR,
    "tensor": TENSOR / 255,
    "tensor of float64": TENSOR.double() / 255,
    "one of a batch": (TENSOR / 255)[None],
    "with gradient": (TENSOR / 255).requires_grad_(),
    "PIL": Image.fromarray(EIGHT),
}


@pytest.fixture(scope="module")
def network(checkpoint):
    return load_enhancer(checkpoint)


@pytest.mark.parametrize("ending", [*LOSSLESS, *LOSSY])
@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.filterwarnings("ignore:.*reduced to 8 bits")
def test_what_enhance_returns_is_written(network, tmp_path, kind, ending):
    expected = cliplit.enhance(EIGHT, network)
    result = cliplit.enhance(IMAGES[kind], network)
    cliplit.write_image(result, tmp_path / f"a{ending}")
    read = read_photo(tmp_path / f"a{ending}")
    assert read.pixels.shape == (40, 56, 3) and [*tmp_path.iterdir()] == [tmp_path / f"a{ending}"]
    deep = kind == "16 bits" and ending in (".png", ".tif", ".ppm", ".heic")
    assert read.pixels.dtype == (np.uint16 if deep else np.uint8)
    off = np.abs(read.pixels / (257 if deep else 1) - expected.astype(float))
    assert off.max() <= 1 if ending in LOSSLESS else off.mean() <= OFF
    assert expected.std() > 20 and not np.array_equal(expected, EIGHT)


def test_floats_are_rounded(tmp_path):
    values = np.linspace(0, 1, 1000, dtype=np.float32).reshape(10, 100)
    cliplit.write_image(values, tmp_path / "a.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), np.round(values * 255).astype(np.uint8))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_modes_of_pil(network, tmp_path, mode, ending):
    image = Image.fromarray(EIGHT[..., 0].astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(EIGHT)
    image = image if mode == "I;16" else image.convert(mode)
    result = cliplit.enhance(image, network)
    cliplit.write_image(result, tmp_path / f"a{ending}")
    with Image.open(tmp_path / f"a{ending}") as again:
        assert again.mode == mode and np.array_equal(np.asarray(again), np.asarray(result))


@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif", ".webp", ".heic", ".avif"])
def test_metadata_of_pil_images_is_kept_and_they_are_turned_upright(network, tmp_path, ending):
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    tags[ExifTags.Base.Make] = "A maker"
    content = io.BytesIO()
    Image.fromarray(EIGHT).save(content, "PNG", exif=tags.tobytes(), icc_profile=PROFILE)
    result = cliplit.enhance(Image.open(content), network)
    cliplit.write_image(result, tmp_path / f"a{ending}")
    read = read_photo(tmp_path / f"a{ending}")
    assert b"A maker" in read.exif and read.icc == PROFILE
    off = np.abs(read.pixels - np.rot90(np.asarray(result), -1).astype(float))
    assert off.mean() <= (OFF if ending in LOSSY else 0)
    if ending != ".heic":
        with Image.open(tmp_path / f"a{ending}") as again:
            assert again.getexif().get(ExifTags.Base.Orientation, 1) == 1


@pytest.mark.parametrize("ending", LOSSY)
def test_the_writer_is_that_of_the_command(tmp_path, ending):
    for quality in (0, 30, 100):
        cliplit.write_image(EIGHT, tmp_path / f"a{ending}", quality=quality)
        write_photo(Photo(EIGHT, options={"quality": quality}), tmp_path / "b", FORMATS[ending])
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / "b").read_bytes()
    cliplit.write_image(EIGHT, tmp_path / "c.jpg")
    with Image.open(tmp_path / "c.jpg") as image:
        default = io.BytesIO()
        Image.fromarray(EIGHT).save(default, "JPEG", quality=95)
        assert image.quantization == Image.open(default).quantization and image.layer[0][1:3] == (1, 1)


def test_quality_makes_smaller_files(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for ending in LOSSY:
        sizes = []
        for quality in (20, 60, 0):
            cliplit.write_image(noise, tmp_path / f"a{ending}", quality)
            sizes.append((tmp_path / f"a{ending}").stat().st_size)
        assert sizes[0] < sizes[1] < sizes[2], ending


def test_what_a_format_cannot_hold_is_a_warning(tmp_path):
    four = np.dstack([EIGHT, EIGHT[..., 0]])
    with pytest.warns(UserWarning, match=r"a\.jpg: transparency left out: JPEG cannot hold it"):
        cliplit.write_image(four, tmp_path / "a.jpg")
    with pytest.warns(UserWarning, match=r"a\.jpg: reduced to 8 bits"):
        cliplit.write_image(EIGHT.astype(np.uint16), tmp_path / "a.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cliplit.write_image(four, tmp_path / "a.png")
        cliplit.write_image(EIGHT / 255, tmp_path / "a.jpg")


REFUSED = {
    "another format": (EIGHT, "a.xyz", r"a\.xyz: cannot write this format; use one of \.jpg"),
    "no ending": (EIGHT, "a", r"a: cannot write this format; use one of \.jpg"),
    "a format that is only read": (EIGHT, "a.gif", r"a\.gif: cannot write this format"),
    "0 to 255 as floats": (EIGHT.astype(np.float32), "a.png", "values from 0 to 1"),
    "NaN": (np.full((4, 4), np.nan), "a.png", "NaN"),
    "whole numbers": (EIGHT.astype(int), "a.png", "int64"),
    "several images": (torch.zeros(2, 3, 4, 4), "a.png", r"\(2, 3, 4, 4\)"),
    "five channels": (np.zeros((4, 4, 5), np.uint8), "a.png", r"\(4, 4, 5\)"),
    "no pixels": (np.zeros((0, 4, 3), np.uint8), "a.png", r"\(0, 4, 3\)"),
    "palette": (Image.new("P", (4, 4)), "a.png", "got P; convert it first"),
    "a list": ([[0.5]], "a.png", "got list"),
    "too large": (np.zeros((1, 17_000), np.uint8), "a.webp", r"a\.webp: cannot be written as WEBP"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_refusals_leave_what_was_there(tmp_path, case):
    image, name, match = REFUSED[case]
    (tmp_path / name).write_text("before")
    with pytest.raises(CliplitError, match=match) as refused:
        cliplit.write_image(image, tmp_path / name)
    assert "\n" not in str(refused.value) and "partial" not in str(refused.value)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


@pytest.mark.parametrize("quality", [-1, 101])
def test_quality_out_of_range(tmp_path, quality):
    with pytest.raises(CliplitError, match=f"'quality' must be from 0 to 100, got {quality}"):
        cliplit.write_image(EIGHT, tmp_path / "a.jpg", quality=quality)


def test_a_transparent_colour_is_refused(network, tmp_path):
    """It would not be that of the enhanced pixels."""
    content = io.BytesIO()
    Image.fromarray(EIGHT).save(content, "PNG", transparency=(30, 20, 200))
    with pytest.raises(CliplitError, match="got a transparent colour; convert it first"):
        cliplit.enhance(Image.open(content), network)
    assert cliplit.enhance(Image.open(content).convert("RGBA"), network).mode == "RGBA"
