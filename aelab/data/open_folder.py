"""Opens a folder of pictures as an image source: looks at each file once."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import NamedTuple

from tqdm import tqdm

from aelab.config import Config
from aelab.data import image_files
from aelab.data.copies import READ_THREADS
from aelab.data.find_pictures import picture_names
from aelab.data.frames import frames
from aelab.data.image_files import failure_reason, is_permanent
from aelab.data.image_folder import ImageFolder
from aelab.errors import UsageError
from aelab.system.console import printable, warn

_SCAN_BLOCK = 64  # files that a thread reads before it reports
_MAX_LISTED = 5  # bad files that one message names
_MAX_MEASURED, _DARK = 16, 1 / 16  # 16-bit pictures, and a share of the range


class _Picture(NamedTuple):
    """A file of the folder, judged by its header.

    Attributes:
      name: relative to the folder.
      size: of the file, in bytes.
      has_16_bits: whether its values have more than 8 bits.
      is_animation: whether it has several frames.
      fault: why it can't be used; "" if it can.
    """

    name: str
    size: int = 0
    has_16_bits: bool = False
    is_animation: bool = False
    fault: str = ""


def open_image_folder(config: Config, split: str) -> ImageFolder:
    """The pictures of `config.data_dir` in a part, `train` or `test`.

    Reads the header of each, in several threads, with a progress bar on a terminal.

    Raises:
      UsageError: `picture_names` refuses the folder, or too many files of the split are
        bad (more than `max_bad_files`, or all). A bad file is not a picture, or is
        smaller than `image_size`.
      OSError: the disk fails, or there are too many open files.
    """
    folder = config.data_dir
    names = picture_names(folder, split, config.split_by, config.test_share)
    pictures = _look_at(config, names, f"Pictures, {split}")
    usable = [picture for picture in pictures if not picture.fault]
    bad = [picture for picture in pictures if picture.fault]
    _check_number(config, split, len(usable), bad)
    for picture in bad:
        warn(f"left out of --data_dir={folder}: {_faulty(picture)}")
    if animations := [picture.name for picture in usable if picture.is_animation]:
        warn(
            f"--data_dir={folder}: {len(animations)} of the {len(names)} pictures for "
            f"{split} have several frames, for example {printable(min(animations))}; "
            "only the first frame of each is used"
        )
    deep = sorted(picture.name for picture in usable if picture.has_16_bits)
    if deep and split == "train":
        _warn_of_darkness(config, deep[:_MAX_MEASURED])
    files = [(picture.name, picture.size) for picture in usable]
    return ImageFolder(files, config, len(bad), bool(deep) and config.image_bits == 16)


def _look_at(config: Config, names: Sequence[str], title: str) -> list[_Picture]:
    """Reads the header of each picture; `title` is the progress bar's."""

    def look(name: str) -> _Picture:
        """Reads one header."""
        path = os.path.join(config.data_dir, name)
        try:
            with image_files.opened(path, config.image_size) as picture:
                has_16_bits = image_files.has_16_bits(picture)
                if has_16_bits and config.image_bits == 8 and picture.format == "TIFF":
                    image_files.check_gray(picture)
                is_animation = frames(picture) > 1
                return _Picture(name, os.path.getsize(path), has_16_bits, is_animation)
        except Exception as error:  # Pillow raises nothing narrower
            if not is_permanent(error):
                raise
            return _Picture(name, fault=failure_reason(error))

    blocks = [names[i : i + _SCAN_BLOCK] for i in range(0, len(names), _SCAN_BLOCK)]
    with image_files.quiet_pillow(), ThreadPoolExecutor(READ_THREADS) as threads:
        found = threads.map(lambda block: list(map(look, block)), blocks)
        pictures = chain.from_iterable(found)
        return list(
            tqdm(pictures, title, len(names), disable=None, delay=1, leave=False)
        )


def _check_number(
    config: Config, split: str, usable: int, bad: Sequence[_Picture]
) -> None:
    """Raises UsageError if too many pictures are bad, or none is usable."""
    if len(bad) <= config.max_bad_files and usable:
        return
    too_many = f"more than --max_bad_files={config.max_bad_files} allows"
    why = too_many if len(bad) > config.max_bad_files else "so none is left"
    rest = len(bad) - _MAX_LISTED
    listed = [*map(_faulty, bad[:_MAX_LISTED]), *[f"and {rest} more"] * (rest > 0)]
    first = (
        f"--data_dir={config.data_dir}: {len(bad)} of the {len(bad) + usable} pictures "
        f"for {split} can't be used, {why}:"
    )
    raise UsageError("\n  ".join([first, *listed]))


def _faulty(picture: _Picture) -> str:
    return f"{printable(picture.name)}: {picture.fault}"


def _warn_of_darkness(config: Config, names: Sequence[str]) -> None:
    """Warns if no 16-bit picture of `names` reaches a sixteenth of the range."""
    paths = (os.path.join(config.data_dir, name) for name in names)
    limit = _DARK * (config.white_level / 65535 or 1)
    try:
        is_dark = all(image_files.brightness(path) < limit for path in paths)
    except Exception as error:  # a damaged picture is reported when it is used
        if not is_permanent(error):
            raise
        return
    if is_dark:
        warn(
            f"--data_dir={config.data_dir}: the 16-bit pictures are nearly black, for "
            f"example {printable(names[0])}: give the value of white with "
            "--white_level, for example 4095 for 12 bits"
        )
