"""Folders of small pictures for tests."""

import numpy as np
import pytest
from PIL import Image

from aelab.config import Config
from aelab.data.sources import load_splits
from aelab.errors import UsageError

SIZE = 8  # of the squares that are cut from the pictures


def numbered(number, height, width):
    """A picture whose pixels hold their row, their column and the picture's number."""
    rows, columns = np.mgrid[:height, :width]
    return np.dstack([rows, columns, np.full_like(rows, number)]).astype(np.uint8)


def write_noisy(folder):
    """Writes 40 noisy color pictures into a new folder; returns it."""
    folder.mkdir()
    generator = np.random.default_rng(1)
    for number in range(40):
        coarse = Image.fromarray(generator.integers(0, 256, (5, 6, 3), np.uint8))
        coarse.resize((30, 25)).save(folder / f"{number}.jpg")
    return folder


def config_of(folder, **values):
    """The configuration of a run on the pictures of a folder."""
    values = {"image_size": SIZE, "batch_size": 8, "seed": 5} | values
    return Config(dataset="images", data_dir=str(folder), **values)


def refusal(config):
    """The message with which the pictures of a configuration are refused."""
    with pytest.raises(UsageError) as caught:
        load_splits(config)
    return str(caught.value)
