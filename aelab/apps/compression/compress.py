"""Compresses images into one file."""

import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from aelab.apps.compression import file_format
from aelab.apps.compression.codec import open_codec
from aelab.apps.compression.file_blocks import block_images, pack_block
from aelab.apps.compression.inputs import list_members, read_blocks
from aelab.apps.compression.tables import Tables, crc_of
from aelab.runs.directory import RunDirectory
from aelab.system.files import atomic_write, writing
from aelab.system.outputs import check_output_file


class Compressed(NamedTuple):
    """Sizes before and after compression; `ideal_bytes` is by the probabilities."""

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
    overwrite: bool = False,
) -> Compressed:
    """Compresses IDX files and pictures into one file, written whole or not at all.

    An existing file is replaced only with `overwrite`, and an input never. See
    `open_codec` for the other arguments.

    Raises:
      UsageError: `open_codec`, `list_members` or `read_blocks` raises it, or `output`
        can't be written.
      OSError: the disk is full or fails.
    """
    check_output_file(output, ".aelab", overwrite, inputs)
    run = RunDirectory(run_dir)
    codec = open_codec(run, checkpoint, data_dir, quantiser_step, model)
    shape, tables = codec.networks.image_shape, codec.tables
    members = list_members(inputs, shape)
    header = file_format.Header(codec.key, tables.crc, shape, members)
    size = block_images(shape)
    ideal_bytes, total = 0.0, header.images
    with (
        writing(f"--output={output}"),
        atomic_write(output) as temporary,
        open(temporary, "wb") as file,
        tqdm(total=total, unit="image", disable=None, dynamic_ncols=True) as progress,
    ):
        start = file_format.pack_header(header)
        file.write(start)
        for n, images in enumerate(read_blocks(inputs, members, shape, size)):
            block, ideal = code_block(n * size, codec.encode(images), tables)
            file.write(block)
            ideal_bytes += ideal
            progress.update(len(images))
        file.write(file_format.pack_copy(start))
    pixel_bytes = total * math.prod(shape)
    return Compressed(total, pixel_bytes, os.path.getsize(output), ideal_bytes)


def code_block(first: int, symbols: np.ndarray, tables: Tables) -> tuple[bytes, float]:
    """The block of symbols, int32 [n, places], and their ideal size in bytes."""
    payload, ideal_bytes = tables.encode(symbols)
    return pack_block(first, len(symbols), crc_of(symbols), payload), ideal_bytes
