"""How many pictures a file holds: pages, slices, frames of an animation, views."""

import math
import re

from PIL import Image, JpegImagePlugin, TiffImagePlugin

_SUBFILE, _PREVIEW, _DESCRIPTION, _SAMPLES, _DEPTH = 254, 1, 270, 277, 32997  # of TIFF
_ENTRIES = 0xB002  # of the index in a JPEG file with several pictures (CIPA DC-007)


def frames(picture: Image.Image) -> int:
    """The frames of an animation, or the views of a scene in a JPEG file; else 1.

    Previews and gain maps of the first picture do not count.
    """
    if picture.format == "TIFF":  # whose other pages are previews
        return 1
    if isinstance(picture, JpegImagePlugin.JpegImageFile):
        return max(_views(picture), 1)
    return int(getattr(picture, "n_frames", 1))


def check_single(picture: Image.Image) -> None:
    """Raises ValueError if an opened file has several `frames`."""
    if (count := frames(picture)) > 1:
        raise ValueError(f"it holds {count} pictures, and only one is allowed")


def _views(picture: JpegImagePlugin.JpegImageFile) -> int:
    """The views of a scene, for the left and the right eye, or for a panorama."""
    try:
        index = JpegImagePlugin._getmp(picture) or {}
        entries = index.get(_ENTRIES, [])
        kinds = [str(entry["Attribute"]["MPType"]) for entry in entries]
    except Exception:  # damaged metadata makes Pillow raise anything
        return 1
    return sum(kind.startswith("Multi-Frame") for kind in kinds)


def tiff_pages(picture: TiffImagePlugin.TiffImageFile) -> int:
    """The pages and slices of a TIFF file, without previews of its first page."""
    text, depth = (picture.tag_v2.get(tag) for tag in (_DESCRIPTION, _DEPTH))
    stack = re.match(r"(?s)ImageJ=.*\nimages=(\d{1,9})", str(text))
    pages = [1, depth if isinstance(depth, int) else 1, int(stack[1]) if stack else 1]
    # Of a file that tifffile has written with one page for all.
    if shape := re.match(r'\{"shape": \[([\d, ]{,99})].*"truncated": true', str(text)):
        values = math.prod(map(int, re.findall(r"\d+", shape[1])))
        channels = int(picture.tag_v2.get(_SAMPLES, 1))
        pages.append(values // (picture.width * picture.height * channels))
    for number in range(1, picture.n_frames):
        picture.seek(number)
        pages[0] += picture.tag_v2.get(_SUBFILE) != _PREVIEW
    picture.seek(0)
    return max(pages)
