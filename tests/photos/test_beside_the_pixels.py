"""What stands beside the pixels fits the new photo, or is said to be lost, and costs no photo."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
import tifffile
from field_files import parts
from field_files.parts import EXIF, chunk, lying, noise, segment, shorts, smooth
from PIL import Image

from cliplit.errors import CliplitError
from cliplit.files.images import decode
from cliplit_photos.formats import FORMATS, photo_size, read_photo, write_photo
from cliplit_photos.formats.exif import read_block


def rewritten(folder, name, content, target=""):
    """The photo in a file of this content, the path of its result, and what was said."""
    (folder / name).write_bytes(content)
    photo = read_photo(folder / name)
    height, width = photo.pixels.shape[:2]
    assert photo_size(folder / name) == (width, height)
    result = folder / (target or f"again-{name}")
    return photo, result, photo.notes + write_photo(photo, result, FORMATS[result.suffix])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_a_raw_strip_is_turned(tmp_path, mode, orientation):
    image = Image.fromarray(noise(3, size=(20, 29)))  # of an odd width
    image = image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)
    shown = np.asarray(
        image if mode == "I;16" else image.convert({"1": "L", "P": "RGB", "CMYK": "RGB"}.get(mode, mode))
    )
    file = io.BytesIO()
    image.save(file, "TIFF", tiffinfo={274: orientation})
    photo, result, _ = rewritten(tmp_path, "a.tif", file.getvalue())
    expected = lying(shown.reshape(20, 29, -1), {6: 8, 8: 6}.get(orientation, orientation))
    assert np.array_equal(photo.channels, expected)
    assert np.array_equal(read_photo(result).channels, expected)
    colours = expected[..., : 1 if expected.shape[2] < 3 else 3]
    assert np.array_equal(decode(tmp_path / "a.tif"), np.broadcast_to(colours, (*expected.shape[:2], 3)))


def pictures_in_tiff(*pages, inner=(), **first):
    """A TIFF of pages; `inner` are pictures inside the first one, which has these options."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file, bigtiff=first.pop("bigtiff", False)) as tiff:
        for number, page in enumerate(pages):
            options = {"photometric": "rgb", "metadata": None}
            options |= first | ({"subifds": len(inner)} if inner else {}) if number == 0 else {}
            tiff.write(page, **options)
            for picture in inner if number == 0 else ():
                tiff.write(picture, photometric="rgb", metadata=None)
    return file.getvalue()


@pytest.mark.parametrize("bigtiff", [False, True])
def test_the_largest_picture_of_a_tiff_is_the_photo(tmp_path, bigtiff):
    large, small = noise(), noise(size=(5, 7))
    said = ["largest of several pictures taken, without page 1 (7 x 5)"] + ["all tags of a BigTIFF left out"] * bigtiff
    content = pictures_in_tiff(small, large, subfiletype=1, bigtiff=bigtiff)
    photo, result, notes = rewritten(tmp_path, "pages.tif", content)
    assert np.array_equal(read_photo(result).pixels, large) and notes == said
    content = pictures_in_tiff(small, inner=[large], subfiletype=1, bigtiff=bigtiff)
    photo, result, notes = rewritten(tmp_path, "inside.tif", content)
    assert np.array_equal(read_photo(result).pixels, large) and notes == said
    content = pictures_in_tiff(large, inner=[small], bigtiff=bigtiff)
    photo, result, notes = rewritten(tmp_path, "pyramid.tif", content)
    assert np.array_equal(photo.pixels, large)
    assert notes[0] == "first of several pictures taken, without inside page 1 (7 x 5)"


def test_a_photo_inside_a_page_has_the_tags_of_the_page(tmp_path):
    tags = [(271, 2, 0, "A maker", False), (274, 3, 1, 6, False), (700, 1, 9, b"<x:xmpmeta", False)]
    content = pictures_in_tiff(noise(size=(5, 7)), inner=[lying(noise(), 6)], subfiletype=1, extratags=tags)
    photo, result, _ = rewritten(tmp_path, "a.tif", content)
    assert np.array_equal(photo.pixels, noise())
    with tifffile.TiffFile(result) as tiff:
        assert len(tiff.pages) == 1
        assert tiff.pages[0].tags.valueof(271) == "A maker" and tiff.pages[0].tags.valueof(274) is None


def test_thumbnails_and_pictures_of_the_same_size_are_not_the_photo(tmp_path):
    frames = [noise(), noise()[::-1], noise()[:, ::-1], noise()[::-1, ::-1], noise()]
    photo, _, notes = rewritten(tmp_path, "pages.tif", pictures_in_tiff(*frames))
    assert np.array_equal(photo.pixels, noise())
    others = ", ".join(f"page {n} (30 x 20)" for n in (2, 3, 4))
    assert notes == [f"first of several pictures taken, without {others} and 1 more"]
    photo, _, notes = rewritten(tmp_path, "mask.tif", pictures_in_tiff(noise(size=(40, 60)), noise(), subfiletype=1))
    assert np.array_equal(photo.pixels, noise()) and "page 1 (60 x 40)" in notes[0]


@pytest.mark.parametrize("first", [Image.Image.quantize, lambda image: image.convert("CMYK")])
def test_a_palette_behind_a_thumbnail_is_the_photo(tmp_path, first):
    large = first(Image.fromarray(noise()))
    file = io.BytesIO()
    Image.fromarray(noise(size=(5, 7))).save(file, "TIFF", save_all=True, append_images=[large])
    photo, _, notes = rewritten(tmp_path, "a.tif", file.getvalue())
    assert np.array_equal(photo.pixels, np.asarray(large.convert("RGB")))
    assert "largest of several pictures taken, without page 1 (7 x 5)" in notes


def test_damaged_pages_cost_no_photo(tmp_path):
    content = bytearray(pictures_in_tiff(noise(), noise(size=(5, 7))))
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        second = tiff.pages[1].offset
    for damage in (b"\xff\xff", b"\0\0", b"\x05\0" + b"\xff" * 60):
        broken = bytearray(content)
        broken[second : second + len(damage)] = damage
        photo, _, _ = rewritten(tmp_path, "a.tif", bytes(broken))
        assert np.array_equal(photo.pixels, noise()), damage


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("kinds", [(0,), (0, 0), (2, 0), (0, 2), (1, 0), (0, 0, 0)])
def test_samples_that_are_no_alpha_stay_what_they_are(tmp_path, dtype, number, kinds):
    pixels = noise(number + len(kinds), dtype)
    alpha = next((number + n for n, kind in enumerate(kinds) if kind), None)
    if alpha:
        pixels[..., alpha] = 1 if dtype == np.float32 else np.iinfo(dtype).max  # so that nothing is multiplied
    photometric = "rgb" if number == 3 else "minisblack"
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric=photometric, planarconfig="contig", extrasamples=kinds, metadata=None)
    photo, result, notes = rewritten(tmp_path, "a.tif", file.getvalue())
    others = [at for at in range(number, pixels.shape[2]) if at != alpha]
    assert np.array_equal(photo.pixels, pixels[..., :number]) and (photo.alpha is None) == (alpha is None)
    assert notes == ["premultiplied transparency written as straight"] * (1 in kinds)
    with tifffile.TiffFile(result) as tiff:
        page = tiff.pages[0]
        order = [*range(number), *([alpha] if alpha else []), *others]
        assert np.array_equal(page.asarray(), pixels[..., order]) and page.photometric == (2 if number == 3 else 1)
        assert page.extrasamples == (2,) * bool(alpha) + (0,) * len(others)
    assert f"{len(others)} extra channels left out" in write_photo(photo, tmp_path / "a.png", "PNG")


def test_alpha_beside_inverted_grey_is_not_inverted(tmp_path):
    pixels = noise(2)
    options = {"photometric": "miniswhite", "planarconfig": "contig", "extrasamples": [2], "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    photo = read_photo(tmp_path / "a.tif")
    assert np.array_equal(photo.pixels[..., 0], 255 - pixels[..., 0]) and np.array_equal(photo.alpha, pixels[..., 1])


HALF = len(parts.P3) // 2


def icc_parts(*numbered, count):
    return b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes([n, count]) + part) for n, part in numbered)


@pytest.mark.parametrize(
    "segments, kept",
    [
        (icc_parts((1, parts.P3), (1, parts.P3), count=1), True),
        (icc_parts((2, parts.P3[HALF:]), (1, parts.P3[:HALF]), count=2), True),
        (icc_parts((1, parts.P3[:HALF]), (2, parts.P3[HALF:]), (2, parts.P3[HALF:]), count=2), True),
        (icc_parts((0, parts.P3[:HALF]), (1, parts.P3[HALF:]), count=2), True),
        (icc_parts((1, parts.P3[:HALF]), (2, parts.P3[HALF:]), count=3), True),
        (icc_parts((1, parts.P3[:HALF]), count=2), False),
        (icc_parts((2, parts.P3[HALF:]), count=2), False),
        (icc_parts((1, parts.P3[:-9]), count=1), False),
        (icc_parts((1, parts.P3), (1, parts.ADOBE), count=1), False),
        (icc_parts((1, parts.P3.replace(b"RGB ", b"CMYK")), count=1), False),
        (icc_parts((1, parts.P3.replace(b"RGB ", b"GRAY")), count=1), False),
        (icc_parts((1, bytes(200)), count=1), False),
    ],
)
def test_a_colour_profile_is_kept_or_said_to_be_lost(tmp_path, segments, kept):
    _, result, notes = rewritten(tmp_path, "a.jpg", parts.jpeg(None, segments))
    with Image.open(result) as image:
        assert image.info.get("icc_profile", b"") == (parts.P3 if kept else b"")
    assert notes == ([] if kept else ["colour profile left out: it is damaged, or made for other colours"])


def test_a_profile_that_is_there_twice_converts_inks(tmp_path):
    pytest.importorskip("PIL.ImageCms")
    ink = Image.new("CMYK", (8, 8), (0, 200, 200, 0))
    file = io.BytesIO()
    ink.save(file, "JPEG", quality=100)
    content = file.getvalue()
    doubled = content[:2] + icc_parts((1, parts.P3), (1, parts.P3), count=1) + content[2:]
    photo, _, notes = rewritten(tmp_path, "a.jpg", doubled)  # a profile that is not for inks
    assert notes == ["CMYK converted to RGB without a profile"] and photo.icc == b""


@pytest.mark.parametrize(
    "data", [b"P3\0\0" + zlib.compress(parts.P3)[:-20], b"P3\0\0no zlib", b"P3\0\1" + zlib.compress(parts.P3), b"P3"]
)
def test_a_damaged_profile_of_png_is_said(tmp_path, data):
    photo, _, notes = rewritten(tmp_path, "a.png", parts.png(noise(), chunk(b"iCCP", data)))
    assert np.array_equal(photo.pixels, noise())
    assert len(notes) == 1 and re.search("iCCP|profile", notes[0])


def test_a_profile_of_grey_is_not_written_to_colours(tmp_path):
    grey = parts.P3.replace(b"RGB ", b"GRAY")
    content = parts.png(noise(1), chunk(b"iCCP", b"P3\0\0" + zlib.compress(grey)))
    photo, result, notes = rewritten(tmp_path, "a.png", content)
    assert Image.open(result).info["icc_profile"] == grey and not notes
    notes = write_photo(photo, tmp_path / "a.webp", "WEBP")
    assert "colour profile left out: it is for grey" in notes
    assert "icc_profile" not in Image.open(tmp_path / "a.webp").info


BAD_SUM = {
    name: chunk(name, data)[:-1] + bytes([chunk(name, data)[-1] ^ 1])
    for name, data in {
        b"tEXt": b"Title\0x",
        b"zTXt": b"Title\0\0" + zlib.compress(b"x"),
        b"iTXt": b"Title\0\0\0\0\0x",
        b"iCCP": b"P3\0\0" + zlib.compress(parts.P3),
        b"eXIf": parts.usual_exif(),
        b"pHYs": struct.pack(">IIB", 1, 1, 1),
        b"tIME": bytes(7),
        b"gAMA": struct.pack(">I", 45455),
        b"prVt": b"own",
    }.items()
}
UNFIT = {
    b"tRNS": b"",
    b"pHYs": b"\0",
    b"gAMA": b"",
    b"cHRM": b"\0\0",
    b"sRGB": b"",
    b"eXIf": b"no EXIF",
    b"zTXt": b"",
    b"iTXt": b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(65 << 20), 1),
    b"cICP": b"\x09",
    b"acTL": b"",
}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("name", BAD_SUM)
def test_a_wrong_check_sum_beside_the_pixels_costs_no_photo(tmp_path, name, behind, bits):
    pixels = noise(3, np.uint16 if bits == 16 else np.uint8)
    plain = parts.png(pixels, bits=bits)
    content = plain[:-12] + BAD_SUM[name] + plain[-12:] if behind else parts.png(pixels, BAD_SUM[name], bits=bits)
    _, result, notes = rewritten(tmp_path, "a.png", content)
    assert np.array_equal(read_photo(result).pixels, pixels)
    assert notes == [f"PNG's damaged chunk {name.decode()!r} left out"]


@pytest.mark.parametrize("name", UNFIT)
def test_odd_chunks_cost_no_photo(tmp_path, name):
    photo, _, _ = rewritten(tmp_path, "a.png", parts.png(noise(), chunk(name, UNFIT[name])))
    assert np.array_equal(photo.pixels, noise())
    photo, _, _ = rewritten(
        tmp_path, "b.png", parts.png(noise(), chunk(name, UNFIT[name]), chunk(b"eXIf", parts.usual_exif(3)))
    )
    assert np.array_equal(photo.pixels, noise()[::-1, ::-1])


def test_long_texts_are_kept_and_the_result_can_be_scored(tmp_path):
    long = chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * 3_000_000))
    xmp = parts.xmp_packet(b"<dc:source>" + b"far " * 500_000 + b"away</dc:source>")
    packed = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp))
    photo, result, notes = rewritten(tmp_path, "a.png", parts.png(noise(), long, packed))
    assert long in result.read_bytes() and photo.xmp == xmp and not notes
    assert np.array_equal(decode(result), noise())


def test_damaged_pixels_of_png_are_refused(tmp_path):
    plain = parts.png(noise())
    data_at = plain.index(b"IDAT")
    for content in (
        plain[: data_at + 400],
        plain[: data_at - 4],
        plain[: data_at + 300] + b"\0\0" + plain[data_at + 302 :],
    ):
        with pytest.raises(CliplitError, match=r"a\.png: "):
            rewritten(tmp_path, "a.png", content)
    photo, _, _ = rewritten(tmp_path, "a.png", plain[:-12])  # only its end is missing
    assert np.array_equal(photo.pixels, noise())
    photo, _, _ = rewritten(tmp_path, "a.png", plain[:-12] + chunk(b"tEXt", b"Title\0x")[:-6])
    assert np.array_equal(photo.pixels, noise())


def test_exif_in_front_of_the_header_turns_the_photo(tmp_path):
    plain = parts.png(noise())
    content = plain[:8] + chunk(b"eXIf", parts.usual_exif(3)) + plain[8:]
    photo, result, notes = rewritten(tmp_path, "a.png", content)
    assert np.array_equal(photo.pixels, noise()[::-1, ::-1]) and not notes and photo_size(result) == (30, 20)


def test_an_odd_resolution_costs_no_photo(tmp_path):
    for odd in (1, 0xFFFFFFFF), (0xFFFFFFFF, 1), (0, 1), (1, 0):
        entries = {262: shorts(2), 258: shorts(8, 8, 8), 277: shorts(3), 296: shorts(2)}
        entries |= {282: (5, struct.pack("<II", *odd)), 283: (5, struct.pack("<II", *odd))}
        photo, result, _ = rewritten(tmp_path, "a.tif", parts.tiff((20, 30), [noise().tobytes()], entries))
        assert np.array_equal(photo.pixels, noise()) and np.array_equal(read_photo(result).pixels, noise())


def test_pages_without_end_cost_no_photo(tmp_path):
    content = bytearray(pictures_in_tiff(noise(), noise()))
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        second = tiff.pages[1].offset
    struct.pack_into("<HI", content, second, 0, second)  # an empty directory, after which it comes again
    photo, _, notes = rewritten(tmp_path, "a.tif", bytes(content))
    assert np.array_equal(photo.pixels, noise()) and not notes


def test_frames_of_a_png_are_said(tmp_path):
    frames = [Image.fromarray(noise()), Image.fromarray(noise()[::-1])]
    frames[0].save(tmp_path / "b.png", save_all=True, append_images=frames[1:])
    photo, _, notes = rewritten(tmp_path, "a.png", (tmp_path / "b.png").read_bytes())
    assert np.array_equal(photo.pixels, noise()) and notes == ["first of several pictures taken"]


OPTIONS = [{}, {"progressive": True}, {"restart_marker_blocks": 2}, {"subsampling": 2, "quality": 30}]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_jpeg_may_lack_its_end_but_nothing_else(tmp_path, options, mode):
    file = io.BytesIO()
    Image.fromarray(noise(3, size=(48, 80))).convert(mode).save(file, "JPEG", **options)
    whole = file.getvalue()
    (tmp_path / "whole.jpg").write_bytes(whole)
    expected = read_photo(tmp_path / "whole.jpg")
    for end in (b"", b"\xff", bytes(99), b"written by a phone"):
        photo, result, notes = rewritten(tmp_path, "a.jpg", whole[:-2] + end)
        assert np.array_equal(photo.pixels, expected.pixels), end
        assert "the end mark of the JPEG was missing" in notes
        assert np.asarray(Image.open(result)).shape[:2] == (48, 80)
    photo, _, notes = rewritten(tmp_path, "a.jpg", whole + b"rubbish")
    assert np.array_equal(photo.pixels, expected.pixels)
    assert "what follows the picture left out (a film, or data of the maker)" in notes
    marks = [found.start() for found in re.finditer(rb"\xff[\xda\xd0-\xd7\xc4]", whole)]
    for place in [*marks[1:9], len(whole) // 2, len(whole) * 3 // 4, len(whole) - 40, len(whole) - 12]:
        (tmp_path / "a.jpg").write_bytes(whole[:place])
        with pytest.raises(CliplitError, match=r"a\.jpg: "):
            read_photo(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    "marker, bits, name", [(0xC1, 12, "JPEG"), (0xC3, 12, "lossless JPEG"), (0xC3, 16, "lossless JPEG")]
)
def test_deep_jpeg_is_named(tmp_path, marker, bits, name):
    plain = parts.jpeg(None, segment(0xE1, bytes(9000)))
    at = plain.index(b"\xff\xc0")
    (tmp_path / "a.jpg").write_bytes(
        plain[: at + 1] + bytes([marker]) + plain[at + 2 : at + 4] + bytes([bits]) + plain[at + 5 :]
    )
    expected = f"a.jpg: {name} of {bits} bits is not supported; convert it to a 16-bit TIFF or PNG"
    with pytest.raises(CliplitError, match=expected):
        read_photo(tmp_path / "a.jpg")


DATA = {
    "JFIF": (0xE0, b"JFIF\0"),
    "Adobe": (0xEE, b"Adobe"),
    "ICC": (0xE2, b"ICC_PROFILE\0"),
    "part": (0xE2, b"ICC_PROFILE\0\1"),
}
DATA |= {"EXIF": (0xE1, b"Exif"), "COM": (0xFE, b""), "Photoshop": (0xED, b"Photoshop 3.0\0008BIM\4\4\0\0\0\0\xff\xff")}


@pytest.mark.parametrize("name", DATA)
@pytest.mark.filterwarnings("ignore")
def test_damaged_segments_cost_no_photo(tmp_path, name):
    exif = parts.exif_segment(parts.exif_block({0x112: shorts(6)}))
    content = parts.jpeg(None, segment(*DATA[name]), exif, segment(0xFE, b"scanned by me"))
    photo, result, notes = rewritten(tmp_path, "a.jpg", content)
    (tmp_path / "whole.jpg").write_bytes(parts.jpeg(None, exif))
    assert np.array_equal(photo.pixels, read_photo(tmp_path / "whole.jpg").pixels)
    assert b"scanned by me" in result.read_bytes()
    refused = name in ("JFIF", "Adobe", "ICC", "part")
    assert notes == ["damaged segments of the JPEG left out"] * refused


def test_wide_colours_of_heif_are_kept_or_said(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    deep = np.ascontiguousarray(smooth().astype(np.uint16) * 257)
    for space, said in {(9, 16): "BT.2020, PQ", (9, 18): "BT.2020, HLG", (12, 13): "Display P3, sRGB"}.items():
        options = {"color_primaries": space[0], "transfer_characteristics": space[1], "full_range_flag": 1}
        image = heif.from_bytes("RGB;16", (30, 20), deep.tobytes())
        image.save(
            tmp_path / "b.heic", quality=95, chroma=444, matrix_coefficients=9 if space[0] == 9 else 6, **options
        )
        photo, result, notes = rewritten(tmp_path, "a.heic", (tmp_path / "b.heic").read_bytes())
        again = heif.open_heif(result, convert_hdr_to_8bit=False)
        kept = again.info["nclx_profile"]
        assert (kept["color_primaries"], kept["transfer_characteristics"]) == space and not notes
        assert np.abs(np.asarray(again).astype(float) - photo.pixels).mean() < 600  # of 65535
        assert not write_photo(photo, tmp_path / "a.png", "PNG")
        assert chunk(b"cICP", bytes([*space, 0, 1])) in (tmp_path / "a.png").read_bytes()
        assert read_photo(tmp_path / "a.png").options["cicp"] == space
        for kind in ("JPEG", "TIFF", "WEBP", "AVIF"):
            notes = write_photo(photo, tmp_path / "a", kind)
            assert f"colour space left out, and colours not converted: {kind} cannot hold it ({said})" in notes
    heif.from_bytes("RGB;16", (30, 20), deep.tobytes()).save(tmp_path / "plain.heic")
    assert not any(
        "colour space" in note for note in write_photo(read_photo(tmp_path / "plain.heic"), tmp_path / "a", "JPEG")
    )


def test_wide_colours_of_png_go_to_heif(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    content = parts.png(noise(3, np.uint16), chunk(b"cICP", bytes([9, 16, 0, 1])), bits=16)
    _, result, notes = rewritten(tmp_path, "a.png", content, "a.heic")
    assert heif.open_heif(result).info["nclx_profile"]["transfer_characteristics"] == 16 and "reduced" not in str(notes)


def test_wide_colours_of_avif_are_said(tmp_path):
    content = bytearray(parts.saved(smooth(), "AVIF"))
    at = content.index(b"colrnclx") + 8
    photo, _, notes = rewritten(tmp_path, "a.avif", bytes(content))
    assert not notes
    content[at : at + 4] = struct.pack(">HH", 9, 16)
    photo, _, notes = rewritten(tmp_path, "a.avif", bytes(content))
    assert notes == ["colour space left out, and colours not converted: AVIF cannot hold it (BT.2020, PQ)"]
    assert not write_photo(photo, tmp_path / "a.png", "PNG")


def xmp_of(properties):
    spaces = {
        "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
        "stArea": "http://ns.adobe.com/xmp/sType/Area#",
        "stDim": "http://ns.adobe.com/xap/1.0/sType/Dimensions#",
        "exif": "http://ns.adobe.com/exif/1.0/",
        "crs": "http://ns.adobe.com/camera-raw-settings/1.0/",
        "GPano": "http://ns.google.com/photos/1.0/panorama/",
        "MP": "http://ns.microsoft.com/photo/1.2/",
        "MPRI": "http://ns.microsoft.com/photo/1.2/t/RegionInfo#",
        "MPReg": "http://ns.microsoft.com/photo/1.2/t/Region#",
        "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
        "xmpGImg": "http://ns.adobe.com/xap/1.0/g/img/",
    }
    declared = " ".join(f'xmlns:{name}="{space}"' for name, space in spaces.items())
    return (
        parts.xmp_packet()
        .replace(b'rdf:about=""', f'rdf:about="" {declared}'.encode())
        .replace(b"</rdf:Description>", properties.encode() + b"</rdf:Description>")
    )


FACE = (
    '<mwg-rs:Regions rdf:parseType="Resource"><mwg-rs:AppliedToDimensions stDim:w="{w}" stDim:h="{h}" stDim:unit="pixel"/>'
    "<mwg-rs:RegionList><rdf:Bag><rdf:li><rdf:Description mwg-rs:Name='Ada'>{area}</rdf:Description></rdf:li></rdf:Bag>"
    "</mwg-rs:RegionList></mwg-rs:Regions>"
)
AREA = '<mwg-rs:Area stArea:x="0.9" stArea:y="0.4" stArea:w="0.1" stArea:h="0.2" stArea:unit="normalized"/>'
NESTED = (
    '<mwg-rs:Area rdf:parseType="Resource"><stArea:x>0.9</stArea:x><stArea:y>0.4</stArea:y><stArea:w>0.1</stArea:w>'
    "<stArea:h>0.2</stArea:h><stArea:unit>normalized</stArea:unit></mwg-rs:Area>"
)
FACES = {  # of x, y, w, h, by orientation; each as the upright picture shows it
    1: (0.9, 0.4, 0.1, 0.2),
    2: (0.1, 0.4, 0.1, 0.2),
    3: (0.1, 0.6, 0.1, 0.2),
    4: (0.9, 0.6, 0.1, 0.2),
    5: (0.4, 0.9, 0.2, 0.1),
    6: (0.6, 0.9, 0.2, 0.1),
    7: (0.6, 0.1, 0.2, 0.1),
    8: (0.4, 0.1, 0.2, 0.1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("area", [AREA, NESTED])
def test_faces_are_turned_with_the_photo(tmp_path, area, orientation):
    xmp = xmp_of(FACE.format(w=30, h=20, area=area))
    exif = parts.exif_block({0x112: shorts(orientation), EXIF: {0x9214: shorts(27, 8, 3, 4), 0xA214: shorts(27, 8)}})
    content = parts.jpeg(None, parts.exif_segment(exif), parts.xmp_segment(xmp))
    photo, result, notes = rewritten(tmp_path, "a.jpg", content)
    with Image.open(result) as image:
        written = image.info["xmp"].decode()
        inner = image.getexif().get_ifd(EXIF)
        width, height = image.size
    found = [float(re.search(rf"stArea:{side}(?:=\"|>)([\d.]+)", written)[1]) for side in "xywh"]
    assert np.allclose(found, FACES[orientation]) and "Ada" in written and not notes
    assert f'stDim:w="{width}"' in written and f'stDim:h="{height}"' in written
    x, y, *_ = FACES[orientation]
    assert inner[0xA214] == (round(x * width), round(y * height))
    assert inner[0x9214] == (round(x * width), round(y * height), *((3, 4) if orientation < 5 else (4, 3)))
    assert (photo.xmp == xmp) == (orientation == 1)


def test_a_face_lies_where_it_lay(tmp_path):
    """The table above, against pixels."""
    for orientation, (x, y, *_) in FACES.items():
        picture = np.zeros((20, 30, 1), np.uint8)
        picture[6:10, 26:28] = 255  # around 0.9, 0.4
        turned = lying(picture, {6: 8, 8: 6}.get(orientation, orientation))[..., 0]
        rows, columns = np.nonzero(turned)
        height, width = turned.shape
        assert np.allclose(((columns.mean() + 0.5) / width, (rows.mean() + 0.5) / height), (x, y))


STALE = {
    "<MP:RegionInfo><rdf:Description><MPRI:Regions><rdf:Bag><rdf:li MPReg:Rectangle='0.1, 0.2, 0.3, 0.4'/></rdf:Bag>"
    "</MPRI:Regions></rdf:Description></MP:RegionInfo>": "Rectangle",
    "<Iptc4xmpExt:ImageRegion><rdf:Bag><rdf:li>far</rdf:li></rdf:Bag></Iptc4xmpExt:ImageRegion>": "ImageRegion>",
    "<crs:CropTop>0.1</crs:CropTop><crs:HasCrop>True</crs:HasCrop>": "Crop",
    "<GPano:CroppedAreaLeftPixels>3</GPano:CroppedAreaLeftPixels>": "CroppedArea",
    "<exif:SubjectArea><rdf:Seq><rdf:li>27</rdf:li><rdf:li>8</rdf:li></rdf:Seq></exif:SubjectArea>": "SubjectArea>",
}


@pytest.mark.parametrize("properties, name", STALE.items(), ids=STALE.values())
def test_other_places_in_the_photo_are_removed_and_said_when_it_is_turned(tmp_path, properties, name):
    packet = parts.xmp_segment(xmp_of(properties))
    for orientation in (1, 6):
        exif = parts.exif_segment(parts.exif_block({0x112: shorts(orientation)}))
        photo, _, notes = rewritten(tmp_path, "a.jpg", parts.jpeg(None, exif, packet))
        assert (name.encode() in photo.xmp) == (orientation == 1) and b"Rating>4<" in photo.xmp
        said = [] if orientation == 1 else ["XMP on places in the photo before it was turned left out"]
        assert notes == said


def test_thumbnails_and_dimensions_in_xmp(tmp_path):
    properties = (
        "<xmp:Thumbnails><rdf:Alt><rdf:li><rdf:Description><xmpGImg:image>/9j/4AAQ</xmpGImg:image></rdf:Description>"
        "</rdf:li></rdf:Alt></xmp:Thumbnails><tiff:ImageWidth>20</tiff:ImageWidth><tiff:ImageLength>30</tiff:ImageLength>"
        "<exif:PixelXDimension>20</exif:PixelXDimension><exif:PixelYDimension>30</exif:PixelYDimension>"
        "<tiff:Orientation>6</tiff:Orientation>"
    )
    photo, _, notes = rewritten(
        tmp_path, "a.jpg", parts.jpeg(lying(smooth(), 6), parts.xmp_segment(xmp_of(properties)))
    )
    assert notes == ["XMP thumbnails left out"] and b"4AAQ" not in photo.xmp and photo.pixels.shape == (20, 30, 3)
    for value in (b"Width>30<", b"Length>20<", b"XDimension>30<", b"YDimension>20<", b"Orientation>1<", b"Rating>4<"):
        assert value in photo.xmp


@pytest.mark.parametrize("packet", [b"<x:xmpmeta", b"<!DOCTYPE a><a/>", b"no XML", b"\xff\xfe<\0"])
def test_xmp_that_cannot_be_parsed(tmp_path, packet):
    exif = parts.exif_segment(parts.exif_block({0x112: shorts(6)}))
    photo, _, notes = rewritten(tmp_path, "a.jpg", parts.jpeg(None, parts.xmp_segment(packet)))
    assert photo.xmp == packet and not notes  # nothing in it is known to be wrong
    photo, _, notes = rewritten(tmp_path, "a.jpg", parts.jpeg(None, exif, parts.xmp_segment(packet)))
    assert photo.xmp == b"" and notes == ["XMP left out: it may say what is no longer so, and cannot be parsed"]


def test_a_thumbnail_is_said(tmp_path):
    exif = parts.exif_segment(parts.usual_exif(thumbnail=parts.jpeg(noise(), quality=40)))
    _, _, notes = rewritten(tmp_path, "a.jpg", parts.jpeg(None, exif))
    assert notes == ["thumbnail of the old photo left out"]


def test_xmp_and_iptc_of_a_raw_are_kept(tmp_path):
    pytest.importorskip("rawpy")
    from test_formats import raw_photo

    xmp = xmp_of("<crs:Exposure2012>+1.50</crs:Exposure2012><tiff:Orientation>6</tiff:Orientation>")
    iptc = parts.iptc_resource(b"Harbour")
    tags = [(700, 1, len(xmp), xmp, True), (33723, 7, 12, iptc[12:24], True), (18246, 3, 1, 4, True)]
    source = raw_photo(tmp_path / "a.dng", tags=tags)
    photo = read_photo(source)
    assert b"Rating>4<" in photo.xmp and b"Exposure2012" not in photo.xmp and b"Orientation>1<" in photo.xmp
    assert "XMP settings for developing the RAW left out" in photo.notes and iptc[12:24] in photo.iptc
    notes = write_photo(photo, tmp_path / "a.tif", "TIFF")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert b"Rating>4<" in tiff.pages[0].tags[700].value and tiff.pages[0].tags.valueof(18246) == 4
    assert not notes and read_block((tmp_path / "a.tif").read_bytes()).problem == ""
