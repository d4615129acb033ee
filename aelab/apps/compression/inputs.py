"""What is to be compressed: IDX files and pictures, read a block at a time."""

import os
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageOps

from aelab.apps.compression.file_format import (
    IDX,
    MAX_IMAGES,
    PICTURE,
    Member,
    name_fault,
)
from aelab.data.idx import IdxFile
from aelab.data.image_files import failure_reason, opened
from aelab.errors import UsageError

_IDX_MAGIC = b"\0\0\x08"
_GZIP_MAGIC = b"\x1f\x8b"
_MODES = {1: ("1", "L"), 3: ("1", "L", "P", "RGB")}
_AS = {1: "L", 3: "RGB"}


def list_members(paths: Sequence[str], shape: tuple[int, int, int]) -> list[Member]:
    """Looks at every file's head.

    Args:
      paths: of IDX files, gzipped or not, and of pictures.
      shape: (height, width, channels) that the images must have.

    Returns:
      One member a file, in the same order, under the name that it will be written as.

    Raises:
      UsageError: a file can't be read, its images have another shape, two would be
        written as one name, or there are too many images.
    """
    members = [_member(path, shape) for path in paths]
    seen: dict[str, str] = {}
    for path, member in zip(paths, members, strict=True):
        if fault := name_fault(member.name):
            raise UsageError(f"{path} can't be {member.name!r} later: {fault}")
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
    paths: Sequence[str],
    members: Sequence[Member],
    shape: tuple[int, int, int],
    size: int,
) -> Iterator[np.ndarray]:
    """The images of all files, `size` at a time: uint8 [size or fewer, H, W, C].

    Raises:
      UsageError: what `list_members` raises, or a file is damaged.
    """
    block: list[np.ndarray] = []
    room = size
    for path, member in zip(paths, members, strict=True):
        for images in _parts(path, member, shape, size):
            while len(images):
                block.append(images[:room])
                images = images[room:]
                room -= len(block[-1])
                if not room:
                    yield np.concatenate(block)
                    block, room = [], size
    if block:
        yield np.concatenate(block)


def _member(path: str, shape: tuple[int, int, int]) -> Member:
    name = os.path.basename(path)
    if not _is_idx(path):
        _read_picture(path, shape, only_head=True)
        return Member(PICTURE, 1, os.path.splitext(name)[0] + ".png")
    with IdxFile(path, 3) as file:
        images = file.shape[0]
        _check_shape(path, (*file.shape[1:], 1), shape)
    return Member(IDX, images, name.removesuffix(".gz"))


def _is_idx(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            start = file.read(3)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read: {error}") from None
    return start == _IDX_MAGIC or start[:2] == _GZIP_MAGIC or path.endswith(".gz")


def _check_shape(path: str, found: Sequence[int], wanted: tuple[int, int, int]) -> None:
    if tuple(found) != wanted:
        raise UsageError(
            f"{path} has images of {' x '.join(map(str, found))}, and the model takes "
            f"{' x '.join(map(str, wanted))} (height, width, channels)"
        )


def _parts(
    path: str, member: Member, shape: tuple[int, int, int], size: int
) -> Iterator[np.ndarray]:
    """The images of a file, `size` at a time at most."""
    if member.kind == PICTURE:
        yield _read_picture(path, shape)[np.newaxis]
        return
    with IdxFile(path, 3) as file:
        _check_shape(path, file.shape, (member.images, *shape[:2]))
        for first in range(0, member.images or 1, size):  # with none, to its end
            images = file.read(min(size, member.images - first))
            yield images.reshape(-1, *shape)


def _read_picture(
    path: str, shape: tuple[int, int, int], only_head: bool = False
) -> np.ndarray:
    """A picture, uint8 [H, W, C]; if only its head counts, none of its pixels, [0]."""
    height, width, channels = shape
    try:
        with opened(path, size=1) as file:
            if getattr(file, "n_frames", 1) > 1:
                raise ValueError("it has several pictures")
            picture = ImageOps.exif_transpose(file)
            if (picture.height, picture.width) != (height, width):
                raise ValueError(
                    f"it has {picture.width} x {picture.height} pixels, and the model "
                    f"takes {width} x {height}"
                )
            if picture.mode not in _MODES[channels] or picture.has_transparency_data:
                kind = {1: "gray", 3: "RGB or gray"}[channels]
                raise ValueError(
                    f"its pixels are {picture.mode}, and the model takes 8 bits, "
                    f"{kind}, without transparency"
                )
            if only_head:
                return np.zeros(0, np.uint8)
            pixels = np.asarray(picture.convert(_AS[channels]))
            return pixels.reshape(shape)
    except Exception as error:  # decoders raise whatever damage leads them to
        raise UsageError(f"{path}: {failure_reason(error)}") from None


def png_of(image: np.ndarray) -> Image.Image:
    """An image, uint8 [H, W, C], as Pillow has it."""
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
