"""Compresses images into one file."""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from aelab.apps.compression.codec import Codec, open_codec
from aelab.apps.compression.file_format import (
    Header,
    block_images,
    pack_block,
    pack_header,
)
from aelab.apps.compression.inputs import list_members, read_blocks
from aelab.apps.compression.tables import Tables, crc_of
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory
from aelab.system.files import atomic_write, writing

_SUFFIX = ".aelab"


class Compressed(NamedTuple):
    """What was written.

    Attributes:
      images: how many.
      pixel_bytes: of the images before.
      file_bytes: of the file.
      ideal_bytes: that the codes would take by the tables' probabilities.
    """

    images: int
    pixel_bytes: int
    file_bytes: int
    ideal_bytes: float


def compress(
    run_dir: str,
    inputs: Sequence[str],
    output: str,
    checkpoint: str = "best",
    data_dir: str = "",
    quantiser_step: float = 0.0,
) -> Compressed:
    """Compresses IDX files and pictures into one file, which is written whole or not.

    Args:
      run_dir: the run whose model is used.
      inputs: the files, which stay as they are.
      output: the file to write.
      checkpoint: `best` or `latest`.
      data_dir: where the run's training images are now, if they were moved.
      quantiser_step: see `open_codec`.

    Raises:
      UsageError: what `open_codec`, `list_members` and `read_blocks` raise, or `output`
        can't be written.
      OSError: the disk is full or fails.
    """
    _check(inputs, output)
    codec = open_codec(RunDirectory(run_dir), checkpoint, data_dir, quantiser_step)
    shape = codec.image_shape
    members = list_members(inputs, shape)
    header = Header(codec.key, codec.tables.crc, shape, members)
    ideal_bytes = 0.0
    with (
        writing(f"--output={output}"),
        atomic_write(output) as aside,
        open(aside, "wb") as file,
    ):
        file.write(pack_header(header))
        for content, ideal in _blocks(codec, header, inputs):
            file.write(content)
            ideal_bytes += ideal
    pixels = header.images * shape[0] * shape[1] * shape[2]
    return Compressed(header.images, pixels, os.path.getsize(output), ideal_bytes)


def _blocks(
    codec: Codec, header: Header, inputs: Sequence[str]
) -> Iterator[tuple[bytes, float]]:
    """Each block, and how many bytes its codes take by their probabilities."""
    size = block_images(codec.image_shape)
    parts = read_blocks(inputs, header.members, codec.image_shape, size)
    first = 0
    with tqdm(
        total=header.images, unit="image", disable=None, dynamic_ncols=True
    ) as progress:
        for images in parts:
            symbols = codec.encode(images)
            yield code_block(first, symbols, codec.tables)
            first += len(symbols)
            progress.update(len(symbols))


def code_block(first: int, symbols: np.ndarray, tables: Tables) -> tuple[bytes, float]:
    """The block of some images' symbols, int32 [n, places], `first` their first.

    Returns:
      Its content, and how many bytes the symbols take by their probabilities.
    """
    payload, ideal_bytes = tables.encode(symbols)
    block = pack_block(first, len(symbols), crc_of(symbols), payload)
    return block, ideal_bytes


def _check(inputs: Sequence[str], output: str) -> None:
    """Raises UsageError unless `output` may be written."""
    if not output.endswith(_SUFFIX):
        raise UsageError(f"--output={output} must end in {_SUFFIX}")
    if os.path.isdir(output):
        raise UsageError(f"--output={output} is a folder; a file is to be written")
    folder = os.path.dirname(os.path.abspath(output))
    if not os.path.isdir(folder):
        raise UsageError(f"--output={output}: there is no folder {folder}")
    for path in inputs:
        both = os.path.exists(output) and os.path.exists(path)
        if both and os.path.samefile(path, output):
            raise UsageError(f"--output={output} would replace the input {path}")
