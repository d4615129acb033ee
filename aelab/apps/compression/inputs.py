"""The files to compress, IDX files and pictures, read one block at a time."""

import itertools
import os
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from aelab.apps.compression import file_format
from aelab.apps.compression.file_format import IDX, MAX_IMAGES, PICTURE, Member
from aelab.data.frames import check_single
from aelab.data.idx import GZIP_MAGIC, IdxFile
from aelab.data.image_files import (
    failure_reason,
    has_16_bits,
    is_permanent,
    opened,
    quiet_pillow,
    upright,
)
from aelab.errors import UsageError

Shape = tuple[int, int, int]  # (height, width, channels)

_IDX_MAGIC = b"\0\0\x08"
# Pillow's modes that are accepted, by the number of channels; the first one is used.
_MODES = {1: ("L", "1"), 3: ("RGB", "1", "L", "P")}


def list_members(paths: Sequence[str], shape: Shape) -> list[Member]:
    """Reads the header of every file: IDX files, gzipped or not, and pictures.

    Raises:
      UsageError: a file can't be read, its images have another shape, two files would
        be written under one name, or there are too many images.
    """
    members = [_member(path, shape) for path in paths]
    seen: dict[str, str] = {}
    for path, member in zip(paths, members, strict=True):
        if problem := file_format.name_problem(member.name):
            raise UsageError(f"{path} can't be written as {member.name!r}: {problem}")
        if member.name in seen:
            raise UsageError(
                f"{seen[member.name]} and {path} would both be written as "
                f"{member.name}: rename one, or compress them into different files"
            )
        seen[member.name] = path
    if sum(member.images for member in members) > MAX_IMAGES:
        raise UsageError(f"more than {MAX_IMAGES} images do not fit into one file")
    return members


def read_blocks(
    paths: Sequence[str], members: Sequence[Member], shape: Shape, size: int
) -> Iterator[np.ndarray]:
    """The images of all files, uint8 [n, H, W, C]; n is `size`, or fewer at the end.

    Raises:
      UsageError: a file is damaged, or has changed since `list_members`.
    """
    pairs = zip(paths, members, strict=True)
    parts = (part for pair in pairs for part in _parts(*pair, shape, size))
    images = itertools.chain.from_iterable(parts)
    while block := list(itertools.islice(images, size)):
        yield np.stack(block)


def _member(path: str, shape: Shape) -> Member:
    try:
        with open(path, "rb") as file:
            start = file.read(3)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read: {error}") from None
    name = os.path.basename(path)
    if not start.startswith((_IDX_MAGIC, GZIP_MAGIC)) and not path.endswith(".gz"):
        _read_picture(path, shape, only_header=True)
        return Member(PICTURE, 1, os.path.splitext(name)[0] + ".png")
    with IdxFile(path, 3) as idx:
        check_shape(path, (*idx.shape[1:], 1), shape)
        return Member(IDX, idx.shape[0], name.removesuffix(".gz"))


def check_shape(what: str, shape: Sequence[int], wanted: Shape) -> None:
    """Raises UsageError unless the images of `what` have the shape `wanted`."""
    if tuple(shape) != wanted:
        raise UsageError(
            f"{what} has images of {' x '.join(map(str, shape))}, and the model takes "
            f"{' x '.join(map(str, wanted))} (height, width, channels)"
        )


def _parts(path: str, member: Member, shape: Shape, size: int) -> Iterator[np.ndarray]:
    """The images of a file, at most `size` at a time."""
    if member.kind == PICTURE:
        yield _read_picture(path, shape)[np.newaxis]
        return
    with IdxFile(path, 3) as file:
        check_shape(path, file.shape, (member.images, *shape[:2]))
        # An empty file is read once too, which checks its end.
        for first in range(0, member.images or 1, size):
            images = file.read(min(size, member.images - first))
            yield images.reshape(-1, *shape)


def _read_picture(path: str, shape: Shape, only_header: bool = False) -> np.ndarray:
    """A picture, uint8 [H, W, C]; an empty array if only its header is checked."""
    height, width, channels = shape
    try:
        with quiet_pillow(), opened(path, size=1) as file:
            check_single(file)
            is_deep = has_16_bits(file)
            file.load()  # which turns a TIFF picture upright
            picture = upright(file)
            if picture.size != (width, height):
                size = f"{picture.width} x {picture.height} pixels"
                raise ValueError(f"it has {size}; the model takes {width} x {height}")
            is_known = picture.mode in _MODES[channels] and not is_deep
            if not is_known or picture.has_transparency_data:
                kind = {1: "gray", 3: "RGB or gray"}[channels]
                bits = f"{picture.mode} of 16 bits" if is_deep else picture.mode
                raise ValueError(
                    f"its pixels are {bits}, and the model takes 8 bits, {kind}, "
                    "without transparency"
                )
            if only_header:
                return np.zeros(0, np.uint8)
            pixels = np.asarray(picture.convert(_MODES[channels][0]))
            return pixels.reshape(shape)
    except Exception as error:  # damage may raise anything in a decoder
        if not is_permanent(error):
            raise
        raise UsageError(f"{path}: {failure_reason(error)}") from None


def to_pillow(image: np.ndarray) -> Image.Image:
    """Pillow's image of uint8 [H, W, C]."""
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
