"""Data sets in the four official files of MNIST and its successors.

These are `{train,t10k}-images-idx3-ubyte` of one channel and, optionally,
`{train,t10k}-labels-idx1-ubyte`; t10k is the test part.
"""

import os

import numpy as np

from aelab.config import Config
from aelab.data.idx import read_idx
from aelab.data.sources import ArraySource, Source
from aelab.errors import UsageError

_PREFIXES = {"train": "train", "test": "t10k"}
_KINDS = ("images-idx3", "labels-idx1")
# Of the package `dataset-fashion-mnist`.
DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist"
_OFFICIAL_FILES = [f"{p}-{k}-ubyte.gz" for p in _PREFIXES.values() for k in _KINDS]
_HALF_DOWNLOAD = "if {} has an incomplete download, delete it to download it again"


def open_fashion_mnist(config: Config, split: str) -> Source:
    """Fashion-MNIST (Xiao et al. 2017) from Debian's folder or Keras' cache.

    Keras downloads it if it is in neither.

    Raises:
      UsageError: the download failed, or a file of the cache is bad.
    """
    if all(_find(DEBIAN_FOLDER, prefix, _KINDS[0]) for prefix in _PREFIXES.values()):
        return read_idx_split(DEBIAN_FOLDER, split)
    home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    folder = os.path.join(home, "datasets", "fashion-mnist")
    if all(os.path.exists(os.path.join(folder, name)) for name in _OFFICIAL_FILES):
        try:
            return read_idx_split(folder, split)
        except UsageError as error:
            raise UsageError(f"{error}; {_HALF_DOWNLOAD.format(folder)}") from None
    import keras

    try:
        train, held_out = keras.datasets.fashion_mnist.load_data()
    except Exception as error:  # Keras raises nothing narrower
        raise UsageError(
            f"--dataset=fashion_mnist: Keras could not download the set ({error}). Put "
            f"{', '.join(_OFFICIAL_FILES)} into {folder}, or use --dataset=synthetic, "
            f"which needs no files; {_HALF_DOWNLOAD.format(folder)}"
        ) from None
    images, labels = train if split == "train" else held_out
    return ArraySource(images[..., np.newaxis], labels)


def open_idx(config: Config, split: str) -> Source:
    """A set in the four official files of MNIST and its successors, in `data_dir`."""
    return read_idx_split(config.data_dir, split)


def read_idx_split(folder: str, split: str) -> ArraySource:
    """Reads the `train` or `test` part of a set in the four official files.

    `_find` has the other names that these may have.

    Raises:
      UsageError: the folder or the images are missing, `read_idx` refuses a file, or
        the numbers of images and labels differ.
    """
    if not os.path.isdir(folder):
        raise UsageError(f"--data_dir={folder} is not a folder")
    prefix = _PREFIXES[split]
    path, labels_path = (_find(folder, prefix, kind) for kind in _KINDS)
    if not path:
        name = f"{prefix}-{_KINDS[0]}-ubyte"
        raise UsageError(f"--data_dir={folder} has no {name}, with or without .gz")
    images = read_idx(path, dimensions=3)
    labels = read_idx(labels_path, dimensions=1) if labels_path else None
    if labels is not None and len(labels) != len(images):
        raise UsageError(
            f"{labels_path} has {len(labels)} labels for the {len(images)} images of "
            f"{path}"
        )
    return ArraySource(images[..., np.newaxis], labels)


def _find(folder: str, prefix: str, kind: str) -> str:
    """The path of an official file, "" if there is none.

    It may be `PREFIX-images.idx3-ubyte`, too, end in `.gz`, and be in a folder of such
    a name, as some programs unpack it.
    """
    for stem in (kind, kind.replace("-", ".")):
        for end in ("", ".gz"):
            path = os.path.join(folder, f"{prefix}-{stem}-ubyte{end}")
            if os.path.isdir(path):
                path = _find(path, prefix, kind)
            if path and os.path.exists(path):
                return path
    return ""
