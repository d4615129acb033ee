"""Writes the images that a compressed file holds."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from aelab.apps.compression import file_format as container
from aelab.apps.compression.codec import Codec, find_codec
from aelab.apps.compression.file_format import (
    IDX,
    Block,
    Header,
    block_images,
    name_fault,
)
from aelab.apps.compression.inputs import png_of
from aelab.apps.compression.tables import crc_of
from aelab.data.idx import idx_header
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory
from aelab.system.files import atomic_write, writing


class Decompressed(NamedTuple):
    """What was written.

    Attributes:
      files: their paths.
      images: how many could be decoded.
      damage: what is wrong with the compressed file, a text each.
    """

    files: list[str]
    images: int
    damage: list[str]


def decompress(
    run_dir: str, path: str, output: str, salvage: bool = False
) -> Decompressed:
    """Writes the images of a compressed file: pictures as PNG, IDX files as such.

    Args:
      run_dir: the run whose model it was compressed with.
      path: the file.
      output: the folder to write to, which is made if it is not there; files of the
        same names are replaced.
      salvage: whether to write what is whole of a damaged file. Lost images are black
        in IDX files, so that the others keep their places, and lost pictures are not
        written.

    Raises:
      UsageError: the file is none of aelab's, damaged or of another model, or `output`
        can't be written. Nothing is written then; but if other symbols come out than
        went in, which takes another version of the entropy coder, files before that.
      OSError: the disk is full or fails.
    """
    with container.opened(path) as content:
        header, place = container.read_header(content, path)
        blocks, damage = [], []
        for part in container.find_blocks(content, place, header.images):
            if isinstance(part, Block):
                blocks.append(part)
            elif salvage:
                damage.append(part)
            else:
                raise UsageError(
                    f"{path} is damaged: {part}; --salvage writes what is whole"
                )
        if damage and not blocks:
            raise UsageError(f"{path} is damaged, and no part of it is whole")
        codec = find_codec(RunDirectory(run_dir), header.key, header.tables_crc, path)
        if codec.image_shape != header.image_shape:
            raise UsageError(f"{path} says that its images are {header.image_shape}")
        images = _decoded(codec, content, blocks, header.images, path)
        with writing(f"--output={output}"):
            os.makedirs(output, exist_ok=True)
            files = _write(header, _paths(header, path, output), _Images(images))
    return Decompressed(files, sum(block.images for block in blocks), damage)


def _paths(header: Header, path: str, output: str) -> list[str]:
    """Where each member is to be written.

    Raises:
      UsageError: a name is no plain name of a file, stands twice, or is that of `path`.
    """
    names = [member.name for member in header.members]
    for name in names:
        if fault := name_fault(name):
            raise UsageError(f"{path} has a file by the name {name!r}: {fault}")
    if len(set(names)) < len(names):
        raise UsageError(f"{path} has two files by one name")
    paths = [os.path.join(output, name) for name in names]
    for target in paths:
        if os.path.exists(target) and os.path.samefile(target, path):
            raise UsageError(
                f"--output={output}: {target} would replace its own source"
            )
    return paths


# Some images, uint8 [n, H, W, C], and whether they are those that were compressed, and
# not black ones in the place of what is lost.
_Part = tuple[np.ndarray, bool]


def _decoded(
    codec: Codec,
    content: Any,
    blocks: Sequence[Block],
    total: int,
    path: str,
) -> Iterator[_Part]:
    """All images in order, with black ones in the gaps between blocks."""
    last = Block(total, 0, 0, 0, 0)
    done, gap = 0, block_images(codec.image_shape)
    with tqdm(total=total, unit="image", disable=None, dynamic_ncols=True) as progress:
        for block in [*blocks, last]:
            while done < block.first:
                size = min(gap, block.first - done)
                done += size
                progress.update(size)
                yield np.zeros((size, *codec.image_shape), np.uint8), False
            if block.images:
                done += block.images
                progress.update(block.images)
                yield codec.decode(_symbols(codec, content, block, path)), True


def _symbols(codec: Codec, content: Any, block: Block, path: str) -> np.ndarray:
    payload = content[block.start : block.end]
    try:
        symbols = codec.tables.decode(payload, block.images)
        if crc_of(symbols) != block.symbols_crc:
            raise ValueError("other symbols come out than went in")
    except ValueError as error:
        raise UsageError(
            f"{path} can't be decoded from its image {block.first} on: {error}; is it "
            "another version of the library constriction?"
        ) from None
    return symbols


class _Images:
    """Takes images out of parts as many at a time as there are and are wanted."""

    def __init__(self, parts: Iterator[_Part]):
        self._parts = parts
        self._images, self._is_whole = np.zeros((0,), np.uint8), True

    def take(self, count: int) -> _Part:
        """The next images, at least 1 and at most `count`."""
        if not len(self._images):
            self._images, self._is_whole = next(self._parts)
        images, self._images = self._images[:count], self._images[count:]
        return images, self._is_whole


def _write(header: Header, paths: Sequence[str], images: _Images) -> list[str]:
    """Writes all members; returns the paths of those that were written."""
    written = []
    for member, path in zip(header.members, paths, strict=True):
        if member.kind == IDX:
            _write_idx(path, member.images, header.image_shape, images)
        else:
            (image,), is_whole = images.take(1)
            if not is_whole:
                continue
            with atomic_write(path) as aside:
                png_of(image).save(aside, "PNG", optimize=True)
        written.append(path)
    return written


def _write_idx(
    path: str, count: int, shape: tuple[int, int, int], images: _Images
) -> None:
    with atomic_write(path) as aside, open(aside, "wb") as file:
        file.write(idx_header((count, *shape[:2])))
        while count:
            part, _ = images.take(count)
            file.write(part.tobytes())
            count -= len(part)
