"""XMP: corrects the packet of a photo that was turned upright, and of which only one picture is kept."""

import re
from xml.dom import minidom
from xml.parsers.expat import ExpatError

ORIENTATION = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|>)\s*)(\d)""")
# Namespaces that refer to other pictures, or to a film, in the same file.
OTHERS = (
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.apple.com/HDRGainMap/1.0/",
    "http://ns.apple.com/pixeldatainfo/1.0/",
    "http://ns.google.com/photos/1.0/audio/",
    "http://ns.google.com/photos/1.0/camera/",
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/container/item/",
    "http://ns.google.com/photos/1.0/depthmap/",
    "http://ns.google.com/photos/1.0/image/",
    "http://ns.google.com/photos/dd/1.0/container/",
    "http://ns.google.com/photos/dd/1.0/item/",
    "http://ns.google.com/photos/dd/1.0/device/",
)


def upright_xmp(xmp: bytes | str) -> tuple[bytes, list[str]]:
    """XMP without the orientation that has been applied, and without references to other pictures of the file; and notes
    on what was lost."""
    if isinstance(xmp, str):
        xmp = xmp.encode()
    xmp = ORIENTATION.sub(rb"\g<1>1", xmp)
    if not any(space.encode() in xmp for space in OTHERS):
        return xmp, []
    try:
        changed = _without_others(xmp)
    except (ExpatError, ValueError, UnicodeError):
        return b"", ["XMP left out: it refers to other pictures of the file and cannot be parsed"]
    return (changed, ["XMP on gain maps, depth or films within the photo left out"]) if changed else (xmp, [])


def _without_others(xmp: bytes) -> bytes:
    """XMP without references to other pictures; empty if there are none, except for declared namespaces."""
    if b"<!DOCTYPE" in xmp or b"<!ENTITY" in xmp:
        raise ValueError("XMP has no such thing")
    document = minidom.parseString(xmp.strip(b"\0 \n"))
    removed = 0
    declarations = []
    for element in document.getElementsByTagName("*"):
        if element.namespaceURI in OTHERS and element.parentNode:
            element.parentNode.removeChild(element)
            removed += 1
            continue
        for attribute in list(element.attributes.values()):
            if attribute.namespaceURI in OTHERS:
                element.removeAttributeNode(attribute)
                removed += 1
            elif attribute.value in OTHERS:
                declarations.append((element, attribute))
    if not removed:
        return b""
    for element, attribute in declarations:
        element.removeAttributeNode(attribute)
    return b"".join(node.toxml().encode() for node in document.childNodes)
