"""Writes the images of a compressed file."""

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from aelab.apps.compression import file_format
from aelab.apps.compression.codec import Codec, find_codec
from aelab.apps.compression.codec_file import codec_path
from aelab.apps.compression.file_blocks import Block, find_blocks, most_images
from aelab.apps.compression.file_format import Content, Header
from aelab.apps.compression.inputs import check_shape, to_pillow
from aelab.apps.compression.tables import crc_of
from aelab.data.idx import idx_header
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory
from aelab.system.files import atomic_write, writing
from aelab.system.outputs import check_outputs


class Decompressed(NamedTuple):
    """Paths of the files written, number of images decoded, and sentences on damage."""

    files: list[str]
    images: int
    damage: list[str]


def decompress(
    run_dir: str,
    path: str,
    output: str,
    salvage: bool = False,
    model: str = "",
    overwrite: bool = False,
) -> Decompressed:
    """Writes the images of a compressed file: pictures as PNG, IDX files as IDX files.

    The folder `output` is created if necessary. Files of the same names in it are
    replaced only with `overwrite`. `run_dir` is the run whose model the file was
    compressed with. `salvage` writes the intact parts of a damaged file: lost images
    are black in IDX files, so that the others keep their positions, and lost pictures
    are not written. See `load_trained` for `model`.

    Raises:
      UsageError: the file is not an `.aelab` file, is damaged or needs another model;
        or `output` can't be written. No file is written then, unless another version of
        the entropy coder decodes different symbols: earlier files are complete then.
      OSError: the disk is full or fails.
    """
    with file_format.map_file(path) as content:
        layout = file_format.read_header(content, path)
        header, parts = layout.header, [*find_blocks(content, layout)]
        paths = _paths(header, path, output)
        run = RunDirectory(run_dir)
        inputs = [path, run.config_json, codec_path(run, header.key)]
        check_outputs(paths, overwrite, inputs)
        if folders := [name for name in paths if os.path.isdir(name)]:
            raise UsageError(f"--output: {folders[0]} is a folder")
        blocks, damage = _sort(parts, path, salvage)
        if header.images > most_images(layout):
            raise UsageError(
                f"{path} is too short for {header.images:,} images, the number in its "
                "header"
            )
        codec = find_codec(run, header.key, header.tables_crc, path, model)
        check_shape(path, header.image_shape, codec.networks.image_shape)
        images = _decode(codec, content, blocks, header.images, path)
        with writing(f"--output={output}"):
            os.makedirs(output, exist_ok=True)
            files = _write(header, paths, images)
    return Decompressed(files, sum(block.images for block in blocks), damage)


def _sort(
    parts: Sequence[Block | str], path: str, salvage: bool
) -> tuple[list[Block], list[str]]:
    """The intact blocks, and what is damaged, which is an error without `salvage`."""
    blocks = [part for part in parts if isinstance(part, Block)]
    damage = [part for part in parts if isinstance(part, str)]
    if damage and not salvage:
        raise UsageError(
            f"{path} is damaged: {damage[0]}; --salvage writes the intact parts"
        )
    if damage and not blocks:
        raise UsageError(f"{path} is damaged, and no part of it is intact")
    return blocks, damage


def _paths(header: Header, path: str, output: str) -> list[str]:
    """The path to write each member to, if all names are plain and unique."""
    names = [member.name for member in header.members]
    for name in names:
        if problem := file_format.name_problem(name):
            raise UsageError(f"{path} has a file by the name {name!r}: {problem}")
    if len(set(names)) < len(names):
        raise UsageError(f"{path} has two files by one name")
    return [os.path.join(output, name) for name in names]


def _decode(
    codec: Codec, content: Content, blocks: Sequence[Block], total: int, path: str
) -> Iterator[np.ndarray | None]:
    """All images in order, each uint8 [H, W, C], or None in the gaps between blocks."""
    done, end = 0, Block(total, 0, 0, 0, 0)
    with tqdm(total=total, unit="image", disable=None, dynamic_ncols=True) as progress:
        for block in [*blocks, end]:
            yield from itertools.repeat(None, block.first - done)
            if block.images:
                yield from codec.decode(_symbols(codec, content, block, path))
            progress.update(block.first + block.images - done)
            done = block.first + block.images


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


def _write(
    header: Header, paths: Sequence[str], images: Iterator[np.ndarray | None]
) -> list[str]:
    """Writes all members; returns the paths of the files that were written."""
    black = bytes(math.prod(header.image_shape))
    written = []
    for member, path in zip(header.members, paths, strict=True):
        if member.kind == file_format.IDX:
            with atomic_write(path) as temporary, open(temporary, "wb") as file:
                file.write(idx_header((member.images, *header.image_shape[:2])))
                for image in itertools.islice(images, member.images):
                    file.write(black if image is None else image.tobytes())
        else:
            image = next(images)
            if image is None:
                continue
            with atomic_write(path) as temporary:
                to_pillow(image).save(temporary, "PNG", optimize=True)
        written.append(path)
    return written
