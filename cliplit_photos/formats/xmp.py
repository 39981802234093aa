"""XMP: corrects the packet of a photo that was turned upright, and of which only one picture is kept."""

import re
from collections.abc import Iterator
from typing import Any
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from cliplit_photos.formats.exif import turned_point

GOOGLE = "http://ns.google.com/photos/"
# Starts of namespaces that refer to other pictures, or to a film, in the same file.
OTHERS = (
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.apple.com/HDRGainMap/1.0/",
    "http://ns.apple.com/pixeldatainfo/1.0/",
    *(f"{GOOGLE}1.0/{what}/" for what in ("audio", "camera", "container", "depthmap", "image")),
    f"{GOOGLE}dd/1.0/",
)
SETTINGS = "http://ns.adobe.com/camera-raw-settings/1.0/"
# Those with places in a picture that are not computed anew when it is turned: faces by Microsoft and ACDSee, panoramas.
PLACES = (SETTINGS, "http://ns.microsoft.com/photo/1.2/", "http://ns.acdsee.com/regions/", f"{GOOGLE}1.0/panorama/")
PLACES_NAMED = ("ImageRegion", "SubjectArea", "SubjectLocation")  # by IPTC and EXIF
AREA = "http://ns.adobe.com/xmp/sType/Area#"  # of faces by the Metadata Working Group
DIMENSIONS = "http://ns.adobe.com/xap/1.0/sType/Dimensions#"
SIDES = {"ImageWidth": 0, "PixelXDimension": 0, "ImageLength": 1, "PixelYDimension": 1}
SUSPECT = re.compile("|".join([*OTHERS, *SIDES, "Orientation", "Thumbnails"]).encode())


def upright_xmp(xmp: bytes, width: int, height: int, orientation: int, raw: bool) -> tuple[bytes, list[str]]:
    """XMP of a picture that had this orientation, without references to other pictures; and notes on what was lost.

    Args:
        width: of the upright picture, as `height`.
        raw: the picture was developed, so settings for that are void.
    """
    if not xmp or (orientation == 1 and not raw and not SUSPECT.search(xmp)):
        return xmp, []
    try:
        if b"<!DOCTYPE" in xmp or b"<!ENTITY" in xmp:
            raise ValueError("XMP has no such thing")
        document = minidom.parseString(xmp.strip(b"\0 \n"))
        before = document.toxml()
        lost = set()
        for element in document.getElementsByTagName("*"):
            lost |= set(_without_stale(element, orientation, raw))
            _put_right(element, (width, height), orientation)
    except (ExpatError, TypeError, ValueError):
        return b"", ["XMP left out: it may say what is no longer so, and cannot be parsed"]
    if document.toxml() == before:
        return xmp, []
    changed = b"".join(node.toxml().encode() for node in document.childNodes)
    return changed, [f"XMP {what} left out" for what in sorted(lost)]


def _without_stale(element: Any, orientation: int, raw: bool) -> Iterator[str]:
    """Remove what is wrong for the picture from an element, or the element itself. Yields what it was."""
    for node in (*element.attributes.values(), element):
        space, name = node.namespaceURI or "", node.localName
        if space.startswith(OTHERS):
            what = "on gain maps, depth or films within the photo"
        elif name == "Thumbnails":
            what = "thumbnails"
        elif raw and space == SETTINGS:
            what = "settings for developing the RAW"
        elif orientation != 1 and (space.startswith(PLACES) or name in PLACES_NAMED):
            what = "on places in the photo before it was turned"
        else:
            continue
        yield what
        if node is not element:
            element.removeAttributeNode(node)
        elif element.parentNode:
            element.parentNode.removeChild(element)


def _put_right(element: Any, size: tuple[int, int], orientation: int) -> None:
    """Let orientation, dimensions and areas in an element be those of the upright picture."""
    area = {}
    for node in (*element.attributes.values(), *element.childNodes):
        name = getattr(node, "localName", "")
        text = node if node.nodeType == node.ATTRIBUTE_NODE else node.firstChild
        if text is None:
            continue
        if name == "Orientation":
            text.nodeValue = "1"
        elif name in SIDES:
            text.nodeValue = str(size[SIDES[name]])
        elif orientation != 1 and node.namespaceURI in (AREA, DIMENSIONS):
            area[name] = text
    if {"x", "y"} <= area.keys():
        place = turned_point(float(area["x"].nodeValue), float(area["y"].nodeValue), 1, 1, orientation)
        area["x"].nodeValue, area["y"].nodeValue = (f"{side:.6g}" for side in place)
    if {"w", "h"} <= area.keys() and orientation > 4:
        area["w"].nodeValue, area["h"].nodeValue = area["h"].nodeValue, area["w"].nodeValue
