"""Photo files as people have them, and what must hold of their results when no pixel is changed.

Every kind that is known to go wrong somewhere, written in our own words: `CASES`, by the name of the file.
"""

from field_files import exif, jpeg, odd, others, png, tiff  # noqa: F401
from field_files.checks import EXIFTOOL, Right, look, wrong
from field_files.registry import CASES, Case

__all__ = ["CASES", "EXIFTOOL", "Case", "Right", "look", "wrong"]
