"""Byte-identical files in two parts of a folder."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

READ_THREADS = 16  # a network disk is slow to open each file
_BLOCK = 2**16  # bytes read at once


def copies(
    folder: str, files: Sequence[tuple[str, int]], others: Sequence[tuple[str, int]]
) -> list[str]:
    """The names in `others` of files that are byte-identical to one of `files`.

    Both have names and sizes in bytes. Few files have the same size and middle, so few
    are read completely.
    """
    parts = (files, others)
    sizes = set.intersection(*({size for _, size in part} for part in parts))
    names = [[name for name, size in part if size in sizes] for part in parts]
    for is_whole in (False, True):
        names = _shared(folder, names, is_whole)
    return names[1]


def _shared(folder: str, parts: list[list[str]], is_whole: bool) -> list[list[str]]:
    """The files of each part whose hash the other part has, too; see `_digest`."""
    with ThreadPoolExecutor(READ_THREADS) as threads:
        pairs = [
            list(threads.map(lambda n: (n, _digest(folder, n, is_whole)), part))
            for part in parts
        ]
    digests = set.intersection(*({digest for _, digest in part} for part in pairs))
    digests.discard("")
    return [[name for name, digest in part if digest in digests] for part in pairs]


def _digest(folder: str, name: str, is_whole: bool) -> str:
    """A hash of a file, or of a block in its middle; "" if it can't be read."""
    path, digest = os.path.join(folder, name), hashlib.sha256()
    try:
        with open(path, "rb") as file:
            file.seek(0 if is_whole else os.path.getsize(path) // 2)
            blocks = iter(lambda: file.read(_BLOCK), b"")
            for block in islice(blocks, None if is_whole else 1):
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()
