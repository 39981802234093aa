"""Photo files read and written faithfully: depth, transparency, EXIF and colour profile kept. Does not import torch.

Pillow reads and writes what has 8 bits; it cannot do 16-bit colour, so OpenCV does deep PNG and PPM, tifffile reads
deep TIFF. Pixels are decoded in strips into one array that is upright from the start, for the sake of memory.
"""

from cliplit.files.formats.photo import FORMATS, MAX_PIXELS, READ, Photo, reduced
from cliplit.files.formats.reading import read_photo, without_pillows_limit
from cliplit.files.formats.writing import write_photo

__all__ = ["FORMATS", "MAX_PIXELS", "READ", "Photo", "read_photo", "reduced", "without_pillows_limit", "write_photo"]
