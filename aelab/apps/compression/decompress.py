"""Writes the images of a compressed file."""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from aelab.apps.compression.codec import Codec, find_codec
from aelab.apps.compression.file_format import (
    IDX,
    Block,
    Content,
    Header,
    block_images,
    find_blocks,
    map_file,
    name_problem,
    read_header,
)
from aelab.apps.compression.inputs import to_pillow
from aelab.apps.compression.tables import crc_of
from aelab.data.idx import idx_header
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory
from aelab.system.files import atomic_write, writing


class Decompressed(NamedTuple):
    """The result of decompressing a file.

    Attributes:
      files: paths of the files that were written.
      images: number of images that were decoded.
      damage: descriptions of the damaged parts of the compressed file.
    """

    files: list[str]
    images: int
    damage: list[str]


def decompress(
    run_dir: str, path: str, output: str, salvage: bool = False, model: str = ""
) -> Decompressed:
    """Writes the images of a compressed file: pictures as PNG, IDX files as IDX files.

    Args:
      run_dir: the run whose model it was compressed with.
      path: the compressed file.
      output: the folder to write to, created if necessary; files of the same names are
        replaced.
      salvage: True to write the intact parts of a damaged file. Lost images are black
        in IDX files, so that the others keep their positions. Lost pictures are not
        written.
      model: the run's `--model`, if it is not built in.

    Raises:
      UsageError: the file is not an `.aelab` file, or is damaged, or needs another
        model; or `output` can't be written. No file is written then, except when the
        entropy coder decodes different symbols, as another version of it may: then
        earlier files have already been written.
      OSError: the disk is full or fails.
    """
    with map_file(path) as content:
        header, place = read_header(content, path)
        blocks, damage = [], []
        for part in find_blocks(content, place, header.images):
            if isinstance(part, Block):
                blocks.append(part)
            elif salvage:
                damage.append(part)
            else:
                raise UsageError(
                    f"{path} is damaged: {part}; --salvage writes the intact parts"
                )
        if damage and not blocks:
            raise UsageError(f"{path} is damaged, and no part of it is intact")
        run, crc = RunDirectory(run_dir), header.tables_crc
        codec = find_codec(run, header.key, crc, path, model)
        if codec.image_shape != header.image_shape:
            raise UsageError(
                f"{path} has images of {header.image_shape}, and the model takes "
                f"{codec.image_shape} (height, width, channels)"
            )
        parts = _decode(codec, content, blocks, header.images, path)
        with writing(f"--output={output}"):
            os.makedirs(output, exist_ok=True)
            files = _write(header, _paths(header, path, output), _Images(parts))
    return Decompressed(files, sum(block.images for block in blocks), damage)


def _paths(header: Header, path: str, output: str) -> list[str]:
    """The path to write each member to.

    Raises:
      UsageError: a name is not a plain file name, or occurs twice, or would overwrite
        `path`.
    """
    names = [member.name for member in header.members]
    for name in names:
        if problem := name_problem(name):
            raise UsageError(f"{path} has a file by the name {name!r}: {problem}")
    if len(set(names)) < len(names):
        raise UsageError(f"{path} has two files by one name")
    paths = [os.path.join(output, name) for name in names]
    for target in paths:
        if os.path.exists(target) and os.path.samefile(target, path):
            raise UsageError(
                f"--output={output}: {target} would overwrite the input file"
            )
    return paths


class _Part(NamedTuple):
    """Consecutive images, uint8 [n, H, W, C]; `is_lost` if black ones replace them."""

    images: np.ndarray
    is_lost: bool


def _decode(
    codec: Codec, content: Content, blocks: Sequence[Block], total: int, path: str
) -> Iterator[_Part]:
    """All images in order, with black ones in the gaps between blocks."""
    end = Block(total, 0, 0, 0, 0)
    done, max_gap = 0, block_images(codec.image_shape)
    with tqdm(total=total, unit="image", disable=None, dynamic_ncols=True) as progress:
        for block in [*blocks, end]:
            while done < block.first:
                size = min(max_gap, block.first - done)
                done += size
                progress.update(size)
                yield _Part(np.zeros((size, *codec.image_shape), np.uint8), True)
            if block.images:
                done += block.images
                progress.update(block.images)
                yield _Part(codec.decode(_symbols(codec, content, block, path)), False)


def _symbols(codec: Codec, content: Content, block: Block, path: str) -> np.ndarray:
    """The symbols of a block, int32 [n, places]."""
    payload = content[block.start : block.end]
    try:
        symbols = codec.tables.decode(payload, block.images)
        if crc_of(symbols) != block.symbols_crc:
            raise ValueError("the decoded symbols differ from the encoded ones")
    except ValueError as error:
        raise UsageError(
            f"{path} can't be decoded from image {block.first} on: {error}; was it "
            "written with another version of the library constriction?"
        ) from None
    return symbols


class _Images:
    """Takes images from a sequence of parts."""

    def __init__(self, parts: Iterator[_Part]):
        self._parts = parts
        self._rest = _Part(np.zeros((0,), np.uint8), False)

    def take(self, count: int) -> _Part:
        """The next images, at least 1 and at most `count`."""
        if not len(self._rest.images):
            self._rest = next(self._parts)
        images, is_lost = self._rest
        self._rest = _Part(images[count:], is_lost)
        return _Part(images[:count], is_lost)


def _write(header: Header, paths: Sequence[str], images: _Images) -> list[str]:
    """Writes all members; returns the paths of the files that were written."""
    written = []
    for member, path in zip(header.members, paths, strict=True):
        if member.kind == IDX:
            _write_idx(path, member.images, header.image_shape, images)
        else:
            (image,), is_lost = images.take(1)
            if is_lost:
                continue
            with atomic_write(path) as temporary:
                to_pillow(image).save(temporary, "PNG", optimize=True)
        written.append(path)
    return written


def _write_idx(
    path: str, count: int, shape: tuple[int, int, int], images: _Images
) -> None:
    """Writes the next `count` images as an IDX file."""
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        file.write(idx_header((count, *shape[:2])))
        while count:
            part = images.take(count).images
            file.write(part.tobytes())
            count -= len(part)
