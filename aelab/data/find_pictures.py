"""Finds the picture files in a folder, and divides them into two parts."""

import collections
import hashlib
import os
from collections.abc import Iterator

from aelab.errors import UsageError
from aelab.system.console import warn

SUFFIXES = (
    *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg"),
    *(".png", ".tif", ".tiff", ".webp"),
)
_KNOWN = ", ".join(SUFFIXES)

# Endings of pictures that are not read, but counted.
_OTHER_ENDINGS = """
3fr apng arw avif avifs blp bpg cr2 cr3 crw cur czi dcm dcr dcx dds dib dng emf eps
erf exr fff fit fits flif hdr heic heics heif hif icb icns ico iiq im j2c j2k jfi jif
jls jng jp2 jpc jpf jpm jps jpx jxl jxr kdc lif mef mng mos mpo mrw nd2 ndpi nef nrw
orf pbm pcd pcx pef pfm pgm pic pict pjp pjpeg pnm ppm psb psd pxr qoi raf ras raw rgb
rgba rw2 rwl sgi sr2 srf srw svg svgz svs tga wbmp wdp wmf x3f xbm xcf xpm
"""
_OTHER_SUFFIXES = {f".{ending}" for ending in _OTHER_ENDINGS.split()}
# What a run writes into the folder of pictures, if that is its own directory.
_RUN_FOLDERS = {"checkpoints", "codec", "images", "tensorboard"}
_RUN_FILES = ("evaluation-",)


def find_pictures(
    folder: str,
    given: str,
    follow_links: bool = False,
    ignored: str = "",
    report: bool = True,
) -> list[str]:
    """Relative paths of the pictures below a folder, sorted within each folder.

    Files are pictures by their suffix, in any case. Hidden files and folders are
    skipped. So are runs and studies, whose panels are not the user's pictures.

    Args:
      folder: where to look.
      given: the flag or argument that names the folder, for warnings.
      follow_links: whether to follow links to folders.
      ignored: a folder that is skipped if it is below the other one.
      report: whether to warn about skipped runs, studies and possible pictures.

    Raises:
      OSError: a folder can't be read.
    """
    results: list[str] = []
    found = [
        os.path.relpath(os.path.join(path, name), folder)
        for path, files in _folders(folder, follow_links, ignored, results)
        for name in files
    ]
    others = [name for name in found if _suffix(name) in _OTHER_SUFFIXES]
    if report and results:
        warn(
            f"{given}: folders of runs and studies are skipped: {len(results)}, for "
            f"example {results[0]}"
        )
    if report and others:
        counts = collections.Counter(map(_suffix, others)).most_common()
        listed = ", ".join(f"{count} {suffix}" for suffix, count in counts)
        warn(
            f"{given}: files that may be pictures are skipped: {len(others)} "
            f"({listed}), for example {others[0]}; {_KNOWN} can be read"
        )
    return [name for name in found if _suffix(name) in SUFFIXES]


def _folders(
    top: str, follow_links: bool, ignored: str, results: list[str]
) -> Iterator[tuple[str, list[str]]]:
    """Each folder with its files. `results` gets the folders of runs and studies."""

    def fail(error: OSError) -> None:
        """Ends the walk, which would skip the folder."""
        raise error

    seen = {_identity(ignored)} if os.path.isdir(ignored) else set()
    seen.discard(_identity(top))
    for path, folders, files in os.walk(top, onerror=fail, followlinks=follow_links):
        holds_run = "config.json" in files and "checkpoints" in folders
        if holds_run or "study.json" in files:
            results.append(path)
            if path != top:
                folders.clear()
                continue
            folders[:] = set(folders) - _RUN_FOLDERS
            files = [name for name in files if not name.startswith(_RUN_FILES)]
        if (identity := _identity(path)) in seen:  # for example a cycle of links
            folders.clear()
            continue
        seen.add(identity)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield path, sorted(name for name in files if not name.startswith("."))


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def picture_names(
    folder: str, split: str, split_by: str = "file", test_share: float = 0.1
) -> list[str]:
    """The pictures below a folder, links included, that belong to `train` or `test`.

    A picture is `test` if a hash of its path within the folder is in the lowest
    `test_share` of all possible hashes. So its part does not change when the folder is
    moved, or when other pictures are added or removed. If a part would be empty, the
    picture with the nearest hash is moved into it, but a share of 0 has no test part.
    The paths are relative, in the order of hashes: the first are a fair sample of all.

    With `split_by="folder"` the hash of a sub-folder decides for all pictures below it,
    at any depth. Pictures directly in `folder` are in the same part, too.

    Warnings about skipped files are printed for `train` only.

    Raises:
      UsageError: a folder can't be read, or has fewer than two pictures, or sub-folders
        with pictures, or no test part.
    """
    given = f"--data_dir={folder}"
    if not os.path.isdir(folder):
        raise UsageError(f"{given} is not a folder")
    try:
        names = find_pictures(folder, given, True, report=split == "train")
    except OSError as error:
        raise UsageError(f"{given} can't be read: {error}") from None
    if len(names) < 2:
        raise UsageError(
            f"{given} must hold at least two pictures, one to train on and one to "
            f"evaluate on, with names in {_KNOWN}; it holds {len(names)}"
        )
    names.sort(key=_hash)
    if not test_share:
        if split == "test":
            raise UsageError(
                f"{given} has no test part: --test_share=0. evaluate.py takes "
                "--split=validation, or --pictures=FOLDER"
            )
        return names
    units = [_unit(name, split_by) for name in names]
    held_out = _held_out({*units}, folder, test_share)
    parts = ("test" if unit in held_out else "train" for unit in units)
    return [name for name, part in zip(names, parts, strict=True) if part == split]


def last_names(names: list[str], count: int, split_by: str) -> set[str]:
    """The last `count` of `names`, or at least as many if sub-folders stay whole."""
    members = collections.defaultdict(list)
    for name in names:
        members[_unit(name, split_by)].append(name)
    last: set[str] = set()
    for unit in sorted(members, key=_hash, reverse=True):
        if len(last) >= count:
            break
        last.update(members[unit])
    return last


def _unit(name: str, split_by: str) -> str:
    """What stays in one part: a picture, or the sub-folder that it is in."""
    return name if split_by == "file" else _sub_folder(name)


def _sub_folder(name: str) -> str:
    """The first folder of a relative path; "" if there is none."""
    return name.rpartition(os.sep)[0].partition(os.sep)[0]


def _held_out(units: set[str], folder: str, share: float) -> set[str]:
    """The pictures or sub-folders of the test part."""
    if len(units) < 2:
        raise UsageError(
            "--split_by=folder needs pictures in at least two sub-folders of "
            f"--data_dir={folder}, and all are in {os.path.join(folder, *units)}; give "
            "another --data_dir, or --split_by=file"
        )
    ordered = sorted(units, key=_hash)
    lowest = sum(_hash(unit) < share for unit in ordered)
    return {*ordered[: min(max(lowest, 1), len(ordered) - 1)]}


def _hash(name: str) -> float:
    """A number in [0, 1) that depends only on `name`."""
    digest = hashlib.sha256(os.fsencode(name)).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
