"""JPEG: segments, sampling, several pictures in one file."""

import hashlib
import io
import struct

import cv2
import numpy as np
from PIL import Image

from field_files import parts
from field_files.checks import Right
from field_files.parts import noise, segment, smooth
from field_files.registry import Made, case, like


@case("comment_iptc.jpg", "comment and IPTC are kept, or said to be lost")
def comment_iptc() -> Made:
    iptc = segment(0xED, b"Photoshop 3.0\0" + parts.iptc_resource(b"Harbour"))
    tags = {"File:Comment": "scanned by me", "IPTC:ObjectName": "Harbour"}
    right = like(smooth(), tags=tags, or_said="comment.*iptc|iptc.*comment")
    return parts.jpeg(None, iptc, segment(0xFE, b"scanned by me")), right


@case("xmp.jpg", "XMP and colour profile are kept")
def xmp() -> Made:
    packet = parts.xmp_segment(parts.xmp_packet())
    right = like(smooth(), tags={"XMP:Rating": 4}, icc=parts.P3)
    return parts.jpeg(None, packet, parts.icc_segments(parts.P3)), right


@case("extended_xmp.jpg", "XMP of several segments is kept whole, or said to be lost")
def extended_xmp() -> Made:
    extension = parts.xmp_packet(b"<dc:source>" + b"far " * 20000 + b"away</dc:source>")
    digest = hashlib.md5(extension).hexdigest().upper().encode()
    first = parts.xmp_packet(b"<xmp:Rating>4</xmp:Rating><xmpNote:HasExtendedXMP>%s</xmpNote:HasExtendedXMP>" % digest)
    segments = [parts.xmp_segment(first)]
    for at in range(0, len(extension), 60000):
        head = b"http://ns.adobe.com/xmp/extension/\0" + digest + struct.pack(">II", len(extension), at)
        segments.append(segment(0xE1, head + extension[at : at + 60000]))
    right = like(smooth(), tags={"XMP:Rating": 4, "XMP:Source": "far " * 20000 + "away"}, or_said="xmp")
    return parts.jpeg(None, *segments), right


LONG_PROFILE = struct.pack(">I", len(parts.P3) + 150_000) + parts.P3[4:] + bytes(150_000)


def profiled(profile: bytes) -> Made:
    return parts.jpeg(None, parts.icc_segments(profile)), like(smooth(), icc=profile, or_said="profile")


case("adobe_profile.jpg", "a colour profile is kept byte for byte, or said to be lost", parts.ADOBE)(profiled)
case("long_profile.jpg", "a colour profile is kept byte for byte, or said to be lost", LONG_PROFILE)(profiled)
case("broken_profile.jpg", "a colour profile is kept byte for byte, or said to be lost", b"no profile" * 20)(profiled)


def of_a_program(marker: int, head: bytes, said: str) -> Made:
    mine = segment(marker, head + b"what its program alone knows")
    return parts.jpeg(None, mine), like(smooth(), kept=b"what its program alone knows", or_said=said)


PROGRAMS = "segments of other programs are kept, or said to be lost"
case("credentials.jpg", PROGRAMS, 0xEB, b"JP\0\1\0\0\0\1", "content credentials|C2PA|APP11")(of_a_program)
case("heat.jpg", PROGRAMS, 0xE1, b"FLIR\0\1\0\0", "FLIR|APP1")(of_a_program)
case("own.jpg", PROGRAMS, 0xE8, b"OURS\0", "OURS|APP8")(of_a_program)


@case("progressive.jpg", "a result, of a progressive JPEG of much detail too")
def progressive() -> Made:
    pixels = noise(size=(256, 256))
    flags = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
    return cv2.imencode(".jpg", pixels[..., ::-1], flags)[1].tobytes(), Right(pixels, 0.05)


def sampled(factor: int, sampling: str) -> Made:
    pixels = smooth(size=(80, 120))
    flags = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor, cv2.IMWRITE_JPEG_QUALITY, 97]
    content = cv2.imencode(".jpg", pixels[..., ::-1], flags)[1].tobytes()
    return content, like(pixels, tags={"File:YCbCrSubSampling": sampling}, or_said="chroma")


SAMPLINGS = {"444": (0x111111, "1 1"), "422": (0x211111, "2 1"), "420": (0x221111, "2 2")}
SAMPLINGS |= {"440": (0x121111, "1 2"), "411": (0x411111, "4 1")}
for name, arguments in SAMPLINGS.items():
    case(f"sampled_{name}.jpg", "chroma subsampling is kept, or said to change", *arguments)(sampled)


GAIN_MAP = b"""<hdrgm:Version>1.0</hdrgm:Version><Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource">
<Container:Item Item:Semantic="Primary" Item:Mime="image/jpeg"/></rdf:li><rdf:li rdf:parseType="Resource">
<Container:Item Item:Semantic="GainMap" Item:Mime="image/jpeg" Item:Length="700"/></rdf:li></rdf:Seq></Container:Directory>
<xmp:Rating>4</xmp:Rating>"""


def second_picture(xmp: bytes) -> Made:
    options = {"save_all": True, "append_images": [Image.new("RGB", (15, 10), "gray")], "quality": 97, "subsampling": 0}
    right = like(
        smooth(), said="gain map|second picture|several pictures", gone=b"GainMap", tags={"MPF:NumberOfImages": None}
    )
    return parts.saved(smooth(), "MPO", xmp=xmp, **options), right


case("ultra_hdr.jpg", "the loss of a second picture is said, and nothing points to it", parts.xmp_packet(GAIN_MAP))(
    second_picture
)
case("mpo.jpg", "the loss of a second picture is said, and nothing points to it", b"")(second_picture)


@case("motion_photo.jpg", "the loss of a film behind the photo is said, and nothing points to it")
def motion_photo() -> Made:
    film = struct.pack(">I", 24) + b"ftypisom" + bytes(4) + b"isommp42" + struct.pack(">I", 8) + b"mdat"
    promise = b"<GCamera:MotionPhoto>1</GCamera:MotionPhoto><GCamera:MicroVideo>1</GCamera:MicroVideo>"
    content = parts.jpeg(None, parts.xmp_segment(parts.xmp_packet(promise))) + film
    return content, like(smooth(), said="film|video|motion|behind|after", gone=b"MotionPhoto>1<")


@case("x.jfif", "endings that are JPEG all the same are JPEG")
def jfif() -> Made:
    return parts.jpeg(), like(smooth(), tags={"File:FileType": "JPEG"})


@case("X.JPE", "endings that are JPEG all the same are JPEG")
def jpe() -> Made:
    return jfif()


@case("grey.jpg", "grey stays grey")
def grey() -> Made:
    return parts.jpeg(smooth(1)), like(smooth(1))


@case("cmyk.jpg", "CMYK is converted, and said")
def cmyk() -> Made:
    pixels = np.broadcast_to(np.uint8([255, 0, 0]), (20, 30, 3))
    file = io.BytesIO()
    Image.new("CMYK", (30, 20), (0, 255, 255, 0)).save(file, "JPEG", quality=97)
    return file.getvalue(), Right(pixels, 0.13, said="CMYK")


@case("dpi.jpg", "resolution is kept")
def dpi() -> Made:
    return parts.jpeg(dpi=(300, 300)), like(smooth(), dpi=300)
