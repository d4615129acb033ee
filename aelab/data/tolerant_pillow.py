"""Makes Pillow skip metadata that it refuses, in the whole process.

Importing this module replaces parts of Pillow's readers of PNG and JPEG files.
"""

import struct
from typing import Any

from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin

# Chunks of PNG files without which the pixels are the same.
PNG_METADATA = b"cHRM cICP gAMA iCCP sRGB mDCV cLLI pHYs eXIf tEXt zTXt iTXt".split()
_REFUSALS = (IndexError, SyntaxError, ValueError, struct.error)
_ICC_HEAD = 14  # bytes before a part of a profile

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit refuses pictures of common sizes


class _PngStream(PngImagePlugin.PngStream):
    """Skips metadata of a PNG file that Pillow refuses, for example for its size."""

    def call(self, cid: bytes, pos: int, length: int) -> bytes:
        """Reads a chunk's content."""
        try:
            return super().call(cid, pos, length)
        except _REFUSALS:
            if cid not in PNG_METADATA or self.fp is None:
                raise
            self.fp.seek(pos)
            return ImageFile._safe_read(self.fp, length)

    def crc(self, cid: bytes, data: bytes) -> None:
        """Checks a chunk's checksum."""
        (self.crc_skip if cid in PNG_METADATA else super().crc)(cid, data)


def _read_app(picture: JpegImagePlugin.JpegImageFile, marker: int) -> None:
    """Reads an application's segment of a JPEG file, all of it even if it is cut."""
    applied = len(picture.applist)
    try:
        JpegImagePlugin.APP(picture, marker)
    except _REFUSALS:
        if len(picture.applist) == applied:  # the segment itself is not there
            raise
    if picture.icclist and len(picture.icclist[-1]) < _ICC_HEAD:
        picture.icclist.pop()


PngImagePlugin.PngStream = _PngStream  # type: ignore[misc]
_MARKERS: dict[int, tuple[Any, ...]] = JpegImagePlugin.MARKER  # type: ignore[assignment]
for _marker, _entry in _MARKERS.items():
    if _entry[2] is JpegImagePlugin.APP:
        _MARKERS[_marker] = (*_entry[:2], _read_app)
# Instead of a function that also reads a list of previews, which may be damaged.
Image.register_open(
    "JPEG", JpegImagePlugin.JpegImageFile, lambda start: start[:3] == b"\xff\xd8\xff"
)
