"""Compresses images into one file."""

import math
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
from aelab.runs.directory import RunDirectory
from aelab.system.files import atomic_write, check_output_file, writing


class Compressed(NamedTuple):
    """Sizes before and after compression.

    Attributes:
      images: number of images.
      pixel_bytes: size of their pixels.
      file_bytes: size of the compressed file.
      ideal_bytes: size of the codes by the tables' probabilities.
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
    model: str = "",
) -> Compressed:
    """Compresses IDX files and pictures into one file, written whole or not at all.

    Args:
      run_dir: the run whose model is used.
      inputs: the files, which are not changed.
      output: the file to write.
      checkpoint: `best` or `latest`.
      data_dir: the folder of the run's training images, if they were moved.
      quantiser_step: see `open_codec`.
      model: the run's `--model`, if it is not built in.

    Raises:
      UsageError: what `open_codec`, `list_members` and `read_blocks` raise, or `output`
        can't be written.
      OSError: the disk is full or fails.
    """
    check_output_file(output, ".aelab", inputs)
    run = RunDirectory(run_dir)
    codec = open_codec(run, checkpoint, data_dir, quantiser_step, model)
    members = list_members(inputs, codec.image_shape)
    header = Header(codec.key, codec.tables.crc, codec.image_shape, members)
    ideal_bytes = 0.0
    with (
        writing(f"--output={output}"),
        atomic_write(output) as temporary,
        open(temporary, "wb") as file,
    ):
        file.write(pack_header(header))
        for content, ideal in _blocks(codec, header, inputs):
            file.write(content)
            ideal_bytes += ideal
    pixel_bytes = header.images * math.prod(codec.image_shape)
    size = os.path.getsize(output)
    return Compressed(header.images, pixel_bytes, size, ideal_bytes)


def _blocks(
    codec: Codec, header: Header, inputs: Sequence[str]
) -> Iterator[tuple[bytes, float]]:
    """Each block, and the ideal size of its codes in bytes."""
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
    """Codes the block of symbols, int32 [n, places], whose first image is `first`.

    Returns:
      The block's bytes, and the ideal size of the symbols in bytes.
    """
    payload, ideal_bytes = tables.encode(symbols)
    block = pack_block(first, len(symbols), crc_of(symbols), payload)
    return block, ideal_bytes
