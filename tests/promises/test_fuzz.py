"""Any command line and any damaged file either works or gets one of our errors.

`make test` runs a few hundred cases, the same ones each time. The soak runs thousands
of different cases each time:

    .venv/bin/python -m pytest --hypothesis-profile=soak tests/promises/test_fuzz.py
"""

import bisect
import contextlib
import dataclasses
import functools
import gzip
import importlib
import io
import json
import os
import pickle
import re
import signal
import struct
import sys
import tempfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from aelab.apps.compression.codec import Codec
from aelab.apps.compression.file_blocks import pack_block
from aelab.apps.compression.file_format import (
    IDX,
    PICTURE,
    Header,
    Member,
    pack_copy,
    pack_header,
)
from aelab.apps.compression.tables import TOTAL, Tables, crc_of
from aelab.cli import CommandLine, exit_code
from aelab.config import FIELDS, Config, field_type, from_json
from aelab.data.decode import read_square
from aelab.data.idx import read_idx
from aelab.data.image_files import failure_reason
from aelab.data.official_files import read_idx_split
from aelab.errors import UsageError
from aelab.runs import checkpoints
from aelab.runs import directory as run_directory
from aelab.runs.directory import RunDirectory

SECONDS = 20  # a call that takes longer hangs
MEMORY = 20 * 2**20  # bytes; the files here have a few KB
FOLDER = "{folder}"  # replaced by the case's folder in a command line


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder for the files of all cases; each case overwrites the previous files."""
    return tmp_path_factory.mktemp("fuzz")


@contextlib.contextmanager
def no_hang():
    def fail(number, frame):
        pytest.fail(f"no answer in {SECONDS} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def answer(function, *arguments, names=""):
    """The result of `function`, None for a UsageError whose message has `names`."""
    tracemalloc.start()
    try:
        with no_hang():
            return function(*arguments)
    except UsageError as error:
        assert names in str(error)
        return None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MEMORY, f"{peak} bytes of memory"


@st.composite
def mutations(draw, contents):
    """One of the `contents`, damaged in one to four places."""
    content = bytearray(draw(contents))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(0, len(content) - 1)))
        end = start + draw(st.integers(1, 40))
        kind = draw(st.sampled_from(["flip", "set", "cut", "drop", "insert", "double"]))
        if kind == "flip" and content:
            content[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set":
            content[start : start + 4] = draw(st.binary(min_size=1, max_size=4))
        elif kind == "cut":
            del content[start:]
        elif kind == "drop":
            del content[start:end]
        elif kind == "insert":
            content[start:start] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "double":
            content[start:start] = content[start:end]
    return bytes(content)


# Command lines and flagfiles.


def outcome(words, folder):
    """(exit code, standard error, [Config, run_dir]) of a command line of train.py."""
    parsed = []

    def main(argv):
        command_line = CommandLine("Trains.")
        command_line.add_path("run_dir", "Folder.", "DIR", required=True)
        command_line.add_config()
        values = command_line.parse(argv)
        parsed.extend([command_line.config(), values.run_dir])

    handler = signal.getsignal(signal.SIGTERM)
    stderr = io.TextIOWrapper(io.BytesIO(), "utf-8", errors=sys.__stderr__.errors)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(stderr):
        patch.setattr(sys, "argv", ["train.py", *words])
        patch.chdir(folder)
        try:
            with no_hang(), contextlib.redirect_stdout(io.StringIO()):
                code = exit_code(main)
        except SystemExit as asked_for_help:
            code = asked_for_help.code
        finally:
            signal.signal(signal.SIGTERM, handler)
    stderr.flush()
    return code, stderr.buffer.getvalue().decode(), parsed


def assert_restored(config, run_dir, folder):
    """The files of a run give back the same configuration."""
    text = json.dumps(dataclasses.asdict(config), allow_nan=False)
    assert repr(from_json(text, "config.json")) == repr(config)
    whole = os.path.join(folder, run_dir)
    text = run_directory._flagfile(config, whole)
    (folder / "run.flags").write_bytes(os.fsencode(text))
    code, errors, parsed = outcome(["--flagfile=run.flags"], folder)
    assert (code, errors) == (0, "")
    assert repr(parsed) == repr([config, os.path.abspath(whole)])


def assert_works_or_is_refused(words, folder):
    """Exit code 0 and a configuration or the help, or 2 and one message."""
    code, errors, parsed = outcome(words, folder)
    if code == 0:
        assert not errors
        if parsed:
            assert_restored(*parsed, folder)
        else:
            assert {"-h", "-help", "--help"} & set(words)
    else:
        assert code == 2
        assert errors.startswith("error: ") and len(errors) > len("error: \n")
        assert len(re.findall("^error: ", errors, re.MULTILINE)) == 1
        assert "Traceback" not in errors


def good_values(name):
    """Values of a field, most of them allowed."""
    choices = FIELDS[name].metadata["choices"]
    limit = FIELDS[name].metadata["new_maximum"]
    if FIELDS[name].metadata["is_list"]:
        return st.lists(st.sampled_from(choices), min_size=1, max_size=4).map(",".join)
    if choices:
        return st.sampled_from(choices)
    numbers = {
        bool: st.booleans(),
        int: st.integers(0, 64) | st.integers(0, 2**30),
        float: st.floats(0, limit, allow_nan=False, allow_infinity=False),
    }
    return numbers.get(field_type(name), st.text(max_size=8))


ANY_TEXT = st.text(st.characters(), max_size=12)  # lone surrogates too
VALUES = st.one_of(
    st.integers().map(str),
    st.floats().map(repr),
    ANY_TEXT,
    st.sampled_from(
        [
            *("", " ", "-", "--", "-1", "-0.0", "1e400", "1e-400", "1_000", "0x10"),
            *("\uff11\uff12", "true", "None", "a: --b", "a\nb", "9" * 400, "9" * 5000),
            *("~", "~nobody", "~\0", "a/ ", "a /", "/", "." * 5000, "\udcff"),
            *(FOLDER, f"{FOLDER}/none", f"{FOLDER}/run.flags"),
        ]
    ),
)
GOOD_WORDS = st.sampled_from(sorted(FIELDS)).flatmap(
    lambda name: good_values(name).map(lambda value: f"--{name}={value}")
)
NAMES = st.sampled_from(
    [
        *(*sorted(FIELDS), "run_dir", "flagfile", "undefok", "h", "help", "helpfull"),
        *("noseed", "nomodel", "no", "epoch", "Seed", "seed ", "", "x" * 1500),
    ]
)
DASHES = st.sampled_from(["--", "-", "---", ""])
WORDS = st.one_of(
    GOOD_WORDS,
    st.builds("--{}={}".format, NAMES, VALUES),
    st.builds("{}{}{}{}".format, DASHES, NAMES, st.sampled_from(["=", ""]), VALUES),
    st.builds("{}{}".format, DASHES, NAMES),
    VALUES,
    st.builds("--run_dir={}".format, VALUES),
    st.builds("--flagfile={}".format, VALUES),
)
GROUPS = st.one_of(
    st.tuples(GOOD_WORDS),
    st.tuples(WORDS),
    st.tuples(st.sampled_from(["--", "-", "", "--help", "-h", "--flagfile"])),
    st.tuples(st.builds("--{}".format, NAMES), VALUES),
    st.tuples(st.just("--dataset=idx"), st.builds("--data_dir={}".format, VALUES)),
    st.tuples(st.just("--dataset=images"), st.builds("--data_dir={}".format, VALUES)),
    st.tuples(st.just("--strategy=mirrored"), st.builds("--devices={}".format, VALUES)),
)
COMMAND_LINES = st.lists(GROUPS, max_size=4).map(
    lambda groups: ["--run_dir=a", *(word for group in groups for word in group)]
)


@given(COMMAND_LINES)
@example(["--run_dir=a"])
@example(["--run_dir=a "])
@example(["--run_dir=a /"])
@example(["--run_dir=~\0"])
@example(["--run_dir=a", "--" + "x" * 2000])
@example(["--run_dir=a", "--noise_stddev=inf"])
@example(["--run_dir=a", "--noise_stddev=nan"])
@example(["--run_dir=a", "--", "--seed=1"])
@example(["--run_dir=a", "--strategy=mirrored", "--devices=a\n--seed=1"])
@example(["--run_dir=a", "--strategy=mirrored", "--devices=a "])
@example(["--run_dir=a", "--dataset=idx", "--data_dir=a /"])
@example(["--run_dir=a", "--dataset=idx", "--data_dir=~\0"])
@example(["--run_dir=a", "--flagfile=~\0"])
@example(["--run_dir=a", "--flagfile"])
def test_any_command_line(folder, words):
    words = [word.replace(FOLDER, str(folder)) for word in words]
    assert_works_or_is_refused(words, folder)


def with_valid_levels(values):
    """Drops the levels of unused corruptions, and gives Gaussian noise one above 0."""
    used = values.get("corruption", "gaussian").split(",")
    if 0 < values.get("jpeg_quality_max", 0) < values.get("jpeg_quality", 10):
        values.pop("jpeg_quality_max")
    lowest, highest = (values.get(f"noise_stddev{end}", 0.0) for end in ("", "_max"))
    if 0 < highest < lowest:
        values |= {"noise_stddev": highest, "noise_stddev_max": lowest}
    elif "gaussian" in used and len(used) > 1 and lowest == highest == 0:
        values["noise_stddev"] = 0.5
    elif lowest == highest == 0:
        values.pop("noise_correlation", None)
    return values


def without_contradictions(values):
    """Drops choices that contradict others."""
    used = values.get("corruption", "gaussian").split(",")
    if "none" in used:
        values["corruption"] = ",".join(n for n in used if n != "none") or "none"
    if {"poisson", "jpeg"} & {*used}:
        values.pop("noise_clip", None)
    if {"mirror", "turn", "max_shift"} & values.keys():
        values.pop("fixed_noise", None)
    if values.get("image_size", 64) < 11:
        values.pop("whole_pictures", None)
    if values.get("supervision", "clean") != "clean":
        values |= {"loss": "mse", "noise_stddev": 0.5}
        for name in ("max_shift", "noise_correlation", "max_bad_files"):
            values.pop(name, None)
        if {"none", "jpeg", "masking", "salt_and_pepper"} & {*used}:
            del values["supervision"]
    return values


def is_used(name, values):
    """True if the other choices use this field."""
    return all(
        set(values.get(owner, FIELDS[owner].default).split(",")) & set(users)
        for owner, users in FIELDS[name].metadata["only_with"].items()
    )


@st.composite
def configs(draw):
    """A valid configuration."""
    values = {
        name: draw(good_values(name))
        for name in draw(st.sets(st.sampled_from(sorted(FIELDS))))
        if name not in ("data_dir", "devices", "profile_steps", "optimizer_args")
    }
    if draw(st.booleans()):
        first = draw(st.integers(1, 10**9))
        values["profile_steps"] = f"{first}:{first + draw(st.integers(1, 10**9))}"
    values["optimizer_args"] = draw(st.sampled_from(["", "epsilon=1e-6,amsgrad=true"]))
    if values.get("dataset") in ("idx", "images"):
        values["data_dir"] = draw(
            st.sampled_from(["/a", "/a b", "/ä/-- =#", "/~", "/\udcff"])
        )
    if values.get("strategy") == "mirrored":
        values["devices"] = draw(st.sampled_from(["", "GPU:0,GPU:1", "--seed=1"]))
    if values.get("strategy") == "multi_worker":
        values.pop("virtual_cpus", None)
    values = without_contradictions(values)
    values = {name: v for name, v in values.items() if is_used(name, values)}
    for name, value in values.items():
        limits = FIELDS[name].metadata
        if isinstance(value, bool | str):
            continue
        if limits["minimum"] is not None:
            values[name] = value = max(value, type(value)(limits["minimum"]))
        if limits["maximum"] is not None:
            values[name] = min(value, type(value)(limits["maximum"]))
        if limits["above"] is not None:
            values[name] = value or 1.0
    if values.get("test_share") == 0:  # then there must be a validation part
        values["validation_examples"] = values.get("validation_examples") or 1
    return Config(**with_valid_levels(values))


@given(
    configs(), st.sampled_from(["a", "/", "~", "-", "ä b", "--seed=1", "#", "a=\udcff"])
)
def test_every_configuration_is_restored_from_its_files(folder, config, run_dir):
    assert_restored(config, run_dir, folder)


def lines_of(words):
    return "\n".join(words).encode("utf-8", "surrogatepass")


RECIPES = [path.read_bytes() for path in sorted((ROOT / "configs").glob("*.flags"))]
FLAGFILES = st.one_of(
    st.binary(max_size=200),
    st.lists(WORDS, max_size=6).map(lines_of),
    mutations(st.sampled_from(RECIPES)),
    mutations(st.just(run_directory._flagfile(Config(), "/a").encode())),
)


@given(FLAGFILES)
@example(b"--flagfile=\0")
@example(b"--flagfile=~\0")
@example(b"--run_dir=~\0")
@example(b"--flagfile\n{folder}/none")
@example(b"\xef\xbb\xbf--seed=1")
@example(b"--seed=" + b"1" * 10**5)
@example(b"-" * 10**5)
def test_any_flagfile(folder, content):
    (folder / "any.flags").write_bytes(content)
    assert_works_or_is_refused(["--run_dir=a", "--flagfile=any.flags"], folder)


def chain(length, times):
    """Flagfiles that each include the next one `times` times."""
    return [[number + 1] * times for number in range(length)] + [[]]


@given(st.lists(st.lists(st.integers(0, 5), max_size=5), min_size=6, max_size=6))
@example([[0]])
@example([[1], [0]])
@example([[*range(6)]] * 6)
@example(chain(1500, 1))
@example(chain(40, 2))
def test_flagfiles_that_include_each_other(folder, includes):
    for number, others in enumerate(includes):
        lines = [f"--seed={number}", *(f"--flagfile={n}.flags" for n in others)]
        (folder / f"{number}.flags").write_text("\n".join(lines))
    assert_works_or_is_refused(["--run_dir=a", "--flagfile=0.flags"], folder)


# IDX files.


def idx(shape, values=b"", kind=8):
    header = struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape)
    return header + values


def zipped(content):
    return gzip.compress(content, mtime=0)


IMAGES, LABELS = idx((3, 4, 5), bytes(range(60))), idx((3,), b"\0\1\2")
ZEROS = bytes(3 * 2**20)  # 3 KB, gzipped
SIZES = st.integers(0, 5) | st.sampled_from([2**10, 2**16, 2**31, 2**32 - 1])
RAW_IDX = st.one_of(
    st.sampled_from([IMAGES, LABELS, b""]),
    st.binary(max_size=100),
    mutations(st.sampled_from([IMAGES, LABELS])),
    st.builds(idx, st.lists(SIZES, max_size=4), st.binary(max_size=80)),
    st.builds(idx, st.tuples(SIZES, SIZES, SIZES), st.just(ZEROS)),
)
IDX_FILES = st.one_of(
    RAW_IDX.map(lambda content: content[:4096]),
    RAW_IDX.map(zipped),
    mutations(st.sampled_from([IMAGES, LABELS]).map(zipped)),
)
SUFFIXES = st.sampled_from(["", ".gz"])


@given(IDX_FILES, SUFFIXES, st.none() | IDX_FILES, SUFFIXES)
@example(IMAGES, "", LABELS, "")
@example(zipped(IMAGES), ".gz", None, "")
@example(zipped(idx((3, 2**10, 2**10), ZEROS)), ".gz", None, "")
@example(zipped(idx((3, 2**10, 2**10), ZEROS + ZEROS)), ".gz", None, "")
@example(zipped(idx((3, 4, 5), bytes(2**25))), ".gz", None, "")
@example(IMAGES[:9], "", None, "")
@example(IMAGES[:-1], "", None, "")
@example(IMAGES, "", idx((2,), b"\0\1"), "")
@example(idx((0, 4, 5)), "", None, "")
@example(idx((2**32 - 1,) * 3), "", None, "")
@example(idx((2**16, 2**16, 1)), "", None, "")
def test_any_idx_files(folder, images, suffix, labels, labels_suffix):
    with tempfile.TemporaryDirectory(dir=folder) as data:
        name = os.path.join(data, "train-images-idx3-ubyte" + suffix)
        Path(name).write_bytes(images)
        if labels is not None:
            name = os.path.join(data, "train-labels-idx1-ubyte" + labels_suffix)
            Path(name).write_bytes(labels)
        source = answer(read_idx_split, data, "train", names=data)
    if source is None:
        assert (images, labels) not in [(IMAGES, None), (IMAGES, LABELS)] or suffix
        return
    read = source.read(np.arange(len(source)))
    assert read.dtype == np.uint8 and read.ndim == 4 and read.size
    assert source.labels is None or len(source.labels) == len(source)


# Pictures.


def picture(format, mode, **options):
    pixels = np.arange(9 * 7 * 3, dtype=np.uint8).reshape(9, 7, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, format, **options)
    return file.getvalue()


EXIF = Image.Exif()
EXIF[0x112] = 6
PICTURES = [
    *(picture("JPEG", mode, exif=EXIF) for mode in ("RGB", "L", "CMYK")),
    *(picture("PNG", mode, exif=EXIF) for mode in ("RGBA", "P", "I;16", "1")),
    *(picture("BMP", "RGB"), picture("GIF", "P"), picture("GIF", "L")),
    *(picture("WEBP", "RGB"), picture("WEBP", "RGBA", lossless=True, exif=EXIF)),
    *(picture("TIFF", mode, exif=EXIF) for mode in ("RGB", "I;16", "1")),
    *(picture("TIFF", "RGB", compression=c) for c in ("tiff_lzw", "jpeg")),
    picture("TIFF", "L", save_all=True, append_images=[Image.new("L", (7, 9))]),
]


@given(mutations(st.sampled_from(PICTURES)) | st.binary(max_size=100))
def test_any_picture(folder, content):
    path = folder / "any.png"
    path.write_bytes(content)
    for channels in (1, 3):
        try:
            with no_hang():
                square = read_square(str(path), 5, channels, 2**31, 2**31)
        except Exception as error:
            reason = failure_reason(error)
            assert reason and reason.isprintable()
        else:
            assert (square.shape, square.dtype) == ((5, 5, channels), np.uint8)


# Checkpoints.

# The entries of two arrays in the archive's index have a length that is a power of two,
# so that a flipped bit can make one of them vanish.
STATES = {
    "one": {"model/kernel01": np.arange(6, dtype=np.float32).reshape(2, 3)},
    "some": {
        "step": np.asarray(7),
        "model/kernel02": np.array([1.5, -0.0, 1e-40], np.float32),
        "optimizer/1": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "none": np.zeros((0, 3), np.float16),
        "flag": np.array([True, False]),
    },
}


@functools.cache
def saved(name):
    """The content of a state's checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        return Path(checkpoints.save(folder, 7, STATES[name])).read_bytes()


def load(folder, content):
    """The arrays of a checkpoint with this content, None if it is refused."""
    path = folder / "step-00000007.npz"
    path.write_bytes(content)
    return answer(checkpoints.load, str(path), names=str(path))


def are_numbers_or_refused(folder, content):
    """Whether a checkpoint is refused, or all its arrays hold numbers."""
    arrays = load(folder, content)
    return all(array.dtype.kind in "biuf" for array in (arrays or {}).values())


def assert_whole_or_refused(folder, name, content):
    """All arrays are there and equal bit for bit, or the file is refused."""
    arrays = load(folder, content)
    if arrays is not None:
        assert list(arrays) == list(STATES[name])
        for key, array in STATES[name].items():
            assert (arrays[key].dtype, arrays[key].shape) == (array.dtype, array.shape)
            assert arrays[key].tobytes() == array.tobytes()


def flipped(content, bit):
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


@pytest.mark.parametrize("name", STATES)
def test_a_whole_checkpoint_is_read(folder, name):
    assert load(folder, saved(name)) is not None
    assert_whole_or_refused(folder, name, saved(name))


@pytest.mark.parametrize("name", STATES)
def test_any_flipped_bit_of_the_index(folder, name):
    content = saved(name)
    for bit in range(8 * content.index(b"PK\1\2"), 8 * len(content)):
        assert_whole_or_refused(folder, name, flipped(content, bit))


@given(st.sampled_from(sorted(STATES)), st.integers(0, 2**20))
def test_any_flipped_bit(folder, name, bit):
    content = saved(name)
    damaged = flipped(content, bit % (8 * len(content)))
    assert_whole_or_refused(folder, name, damaged)


@given(st.sampled_from(sorted(STATES)), st.integers(0, 2**20))
def test_any_truncation(folder, name, length):
    content = saved(name)
    assert load(folder, content[: length % len(content)]) is None


@given(mutations(st.sampled_from(sorted(STATES)).map(saved)) | st.binary(max_size=200))
def test_any_damage_to_a_checkpoint(folder, content):
    assert are_numbers_or_refused(folder, content)


class Trap:
    """Makes the folder `path` when it is unpickled."""

    def __init__(self, path):
        self._path = str(path)

    def __reduce__(self):
        return os.mkdir, (self._path,)


def npy(header, values, version=(1, 0)):
    """An array file with this text as its header, padded as NumPy does it."""
    text = header.encode("utf-8", "surrogatepass")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text + values


def header_of(descr, is_fortran, shape):
    """The text of a header as NumPy writes it."""
    return f"{{'descr': {descr!r}, 'fortran_order': {is_fortran}, 'shape': {shape}, }}"


def archive(members):
    """A zip file of (name, content, compression), written as NumPy does it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        for name, content, compression in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            written.NameToInfo.pop(name, None)  # or it warns of names that repeat
            with written.open(info, "w", force_zip64=True) as member:
                member.write(content)
    return file.getvalue()


@functools.cache
def bomb(times):
    """Members of 8 KB that each hold 8 MB of zeros."""
    zeros = npy(header_of("|u1", False, (2**23,)), bytes(2**23))
    return archive((f"{n}.npy", zeros, zipfile.ZIP_DEFLATED) for n in range(times))


def overlapping(times):
    """One stored member of 4 KB that is many times in the archive's index."""
    zeros = npy(header_of("|u1", False, (4096,)), bytes(4096))
    content = archive([("00000000.npy", zeros, zipfile.ZIP_STORED)])
    start, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    entry = content[start:end]
    index = b"".join(
        entry.replace(b"00000000.npy", b"%08d.npy" % number) for number in range(times)
    )
    sizes = struct.pack("<HHII", times, times, len(index), start)
    return content[:start] + index + content[end : end + 8] + sizes + b"\0\0"


SHAPES = st.lists(
    st.integers(-2, 4) | st.sampled_from([True, 2**31, 2**63, 2**70, "2", None, 1.0]),
    max_size=4,
).map(tuple)
DESCRS = st.sampled_from(
    [
        *("<f4", "<f8", "|u1", "|b1", "|O", "O", "<U9", "|S0", "|V0", "<M8[s]", "<c8"),
        *(">f4", "3f4", "(1,", ",", "<f999999999", "", "object", ("<f4",), ("<f4", 2)),
        *(("<f4", (2**40,)), (), [], [("a", "|O")], {}, None, 4),
    ]
)
HEADERS = st.one_of(
    st.builds(header_of, DESCRS, st.booleans(), SHAPES),
    st.builds(header_of, st.just("<f4"), st.just(False), SHAPES),
    st.builds(header_of, DESCRS, st.sampled_from([None, 0, "no"]), st.just((2,))),
    st.text(max_size=30),
    mutations(st.just(header_of("<f4", False, (2, 1)).encode())).map(
        lambda content: content.decode("latin1")
    ),
    st.sampled_from(
        [
            *("{", "(" * 300, "-" * 9000 + "1", "{[]: 1}", "'\\d'", "1if 1else 1"),
            *(" 1\n  2\n 3", "{'descr': '<f4', 'fortran_order': False, 1: (2,)}"),
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2L,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'more': 1}",
        ]
    ),
)
VERSIONS = st.sampled_from([(1, 0), (1, 0), (2, 0), (3, 0), (9, 9)])
MEMBERS = st.tuples(
    st.sampled_from(["a.npy", "a.npy", "a/b.npy", "b", ".npy", "../a.npy", "/", "é"]),
    st.builds(npy, HEADERS, st.binary(max_size=40), VERSIONS) | st.binary(max_size=40),
    st.sampled_from([zipfile.ZIP_STORED] * 5 + [zipfile.ZIP_DEFLATED]),
)
ARCHIVES = st.lists(MEMBERS, max_size=3).map(archive)


def one_array(header, values=bytes(8)):
    return archive([("a.npy", npy(header, values), zipfile.ZIP_STORED)])


def test_an_archive_made_here_equals_one_of_numpy(folder):
    """So other archives made here are refused for their content."""
    values = STATES["one"]["model/kernel01"]
    file = io.BytesIO()
    np.savez(file, a=values)
    content = one_array(header_of("<f4", False, (2, 3)), values.tobytes())
    assert content == file.getvalue()
    np.testing.assert_array_equal(load(folder, content)["a"], values, strict=True)


@given(ARCHIVES | mutations(ARCHIVES))
@example(archive([]))
@example(archive([("a.npy", npy(header_of("<f4", False, (2,)), bytes(8)), 0)] * 9))
@example(one_array(header_of("<f4", False, (2**20, 2**20))))
@example(one_array(header_of("<f4", False, (-1, -2))))
@example(one_array(header_of("<f4", False, (0, 2**70)), b""))
@example(one_array(header_of("<f4", False, (1,) * 99), bytes(4)))
@example(one_array(header_of(("<f4",), False, (2,))))
@example(one_array("{'descr': '<f4', 'fortran_order': False, 1: (2,)}"))
@example(one_array("{'descr': '<f4', 'fortran_order': False, 'shape': (2L,)}"))
@example(one_array(header_of("(1,", False, (2,))))
@example(one_array(header_of("<f3", False, (2,)), bytes(6)))
@example(one_array("("))
@example(one_array("{[]: 1}"))
@example(one_array("-" * 9000 + "1"))
@example(bomb(4))
@example(overlapping(9999))
def test_any_archive(folder, content):
    assert are_numbers_or_refused(folder, content)


@given(
    st.sampled_from(["|O", "O", [("a", "|O")]]) | DESCRS,
    st.sampled_from([(), (1,), (2,), (2**40,)]),
    VERSIONS,
    st.booleans(),
)
def test_nothing_is_ever_unpickled(folder, descr, shape, version, is_zipped):
    sprung = folder / "sprung"
    pickled = pickle.dumps(np.array([Trap(sprung)], dtype=object))
    content = npy(header_of(descr, False, shape), pickled, version)
    if is_zipped:
        content = archive([("a.npy", content, zipfile.ZIP_STORED)])
    assert load(folder, content) is None
    assert load(folder, pickled) is None
    assert not sprung.exists()


def test_the_trap_works(tmp_path):
    pickled = pickle.dumps(np.array([Trap(tmp_path / "sprung")], dtype=object))
    content = io.BytesIO(npy(header_of("|O", False, (1,)), pickled))
    np.load(content, allow_pickle=True)
    assert (tmp_path / "sprung").exists()


# Compressed files. Their checksums are correct, so their content gets past them.

DECOMPRESS = importlib.import_module("aelab.apps.compression.decompress")
IMAGE_SHAPE = (5, 4, 1)
KEY = b"the key!"


@functools.cache
def small_codec():
    """A codec of three integers per image, which all decode to gray."""
    half, third = TOTAL // 2, TOTAL // 3
    rows = [[half, half, third, third, TOTAL - 2 * third]] * 2
    tables = Tables(
        1.0,
        np.zeros(2, np.int32),
        np.array([2, 3], np.int32),
        np.array([half, half], np.uint32),
        np.array(rows, np.uint32),
    )
    networks = SimpleNamespace(
        image_shape=IMAGE_SHAPE,
        decode=lambda codes: np.full((len(codes), *IMAGE_SHAPE), 128, np.uint8),
    )
    return Codec(networks, KEY, tables)


def start_of(body, version=2):
    """The header with this body and the correct checksum."""
    start = struct.pack("<8sBI", b"\x89aelab\r\n", version, len(body)) + body
    return start + struct.pack("<I", zlib.crc32(start))


def body_of(shape, members):
    return pack_header(Header(KEY, small_codec().tables.crc, shape, members))[13:-4]


def coded(first, count):
    """A block that `compress` may have written."""
    symbols = np.arange(2 * count, dtype=np.int32).reshape(-1, 2) % 2
    payload, _ = small_codec().tables.encode(symbols)
    return pack_block(first, count, crc_of(symbols), payload)


GOOD_MEMBERS = [Member(IDX, 6, "six"), Member(PICTURE, 1, "one.png")]
GOOD_BODY = body_of(IMAGE_SHAPE, GOOD_MEMBERS)
GOOD_BLOCKS = [coded(0, 4), coded(4, 3)]
COUNTS = st.integers(0, 9) | st.sampled_from([4096, 4097, 2**16 - 1])
MANY = COUNTS | st.sampled_from([2**16, 2**31, 2**32 - 1])
ANY_MEMBERS = st.lists(
    st.builds(
        Member,
        st.sampled_from([PICTURE, IDX, 2, 255]),
        MANY,
        st.sampled_from(["a", "b.png", "c", "..", "/d", "e/f", "", ".tmp-g", "\0"]),
    ),
    max_size=4,
)
BODIES = st.one_of(
    st.just(GOOD_BODY),
    st.builds(body_of, st.just(IMAGE_SHAPE), ANY_MEMBERS),
    st.builds(body_of, st.tuples(MANY, MANY, MANY), ANY_MEMBERS),
    mutations(st.just(GOOD_BODY)),
)
BLOCKS = st.lists(
    st.one_of(
        st.sampled_from(GOOD_BLOCKS),
        st.builds(coded, COUNTS, st.integers(0, 9)),
        st.builds(
            pack_block,
            MANY,
            COUNTS,
            st.sampled_from([0, crc_of(np.zeros((1, 2), np.int32))]),
            st.binary(max_size=12) | st.sampled_from([bytes(4), bytes(8)]),
        ),
        st.binary(max_size=30),
    ),
    max_size=4,
)


@given(BODIES, BLOCKS, BODIES | st.none(), st.sampled_from([1, 2]), st.booleans())
@example(GOOD_BODY, GOOD_BLOCKS, None, 2, False)
@example(
    body_of(IMAGE_SHAPE, [Member(IDX, 2**32 - 1, "a")]), GOOD_BLOCKS, None, 2, True
)
@example(body_of((2**30, 2**30, 3), GOOD_MEMBERS), GOOD_BLOCKS, None, 2, True)
@example(body_of((0, 4, 1), GOOD_MEMBERS), GOOD_BLOCKS, None, 1, True)
@example(body_of(IMAGE_SHAPE, [Member(PICTURE, 0, "a")]), [], None, 2, False)
@example(body_of(IMAGE_SHAPE, [Member(PICTURE, 2, "a")]), [coded(0, 2)], None, 2, False)
def test_any_compressed_file(folder, body, blocks, other_body, version, salvage):
    """Images may be as many as `compress` writes into so many bytes, and no more."""
    start = start_of(body, version)
    copy = start if other_body is None else start_of(other_body, version)
    end = pack_copy(copy) if version == 2 else b""
    content = start + b"".join(blocks) + end
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path, output = os.path.join(place, "x.aelab"), os.path.join(place, "out")
        Path(path).write_bytes(content)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DECOMPRESS, "find_codec", lambda *arguments: small_codec())
            done = answer(DECOMPRESS.decompress, "", path, output, salvage, names=path)
        written = [*Path(place).rglob("*")]
        files = {str(file) for file in written if file.is_file()} - {path}
        assert all(os.path.dirname(file) == output for file in files)
        size = sum(map(os.path.getsize, files))
        assert size <= len(content) // 22 * 4096 * 20 + 100 * len(files)
        if done is None:
            assert (body, blocks, other_body) != (GOOD_BODY, GOOD_BLOCKS, None)
            return
        assert files == set(done.files)
        assert salvage or not done.damage
        counts = [
            1 if name.endswith(".png") else len(read_idx(name, 3)) for name in files
        ]
        assert salvage or sum(counts) == done.images


# config.json.

GOOD_JSON = dataclasses.asdict(Config()) | {
    "data": {"image_shape": [28, 28, 1]},
    "machine": {"replicas": 1},
    "versions": {},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner),
    max_leaves=8,
)
CHANGES = st.dictionaries(st.sampled_from(sorted(GOOD_JSON)), JSON, max_size=3)
SIZES_OF_IMAGES = st.integers(1, 99) | st.sampled_from([0, -1, 1.5, None, "1", [1]])
SHAPES_OF_IMAGES = st.lists(SIZES_OF_IMAGES, min_size=2, max_size=4).map(
    lambda shape: {"data": {"image_shape": shape}}
)
CONFIG_FILES = st.one_of(
    st.binary(max_size=200),
    JSON.map(json.dumps).map(str.encode),
    CHANGES.map(lambda changes: json.dumps(GOOD_JSON | changes).encode()),
    SHAPES_OF_IMAGES.map(lambda shape: json.dumps(GOOD_JSON | shape).encode()),
    mutations(st.just(json.dumps(GOOD_JSON).encode())),
)


def assert_read_or_refused(folder, content):
    """The readers of a run directory return what they promise or raise UsageError."""
    run = RunDirectory(str(folder))
    Path(run.config_json).write_bytes(content)
    config = answer(run.read_config, names=run.path)
    shape = answer(run.read_image_shape, names=run.path)
    machine = answer(run.read_machine, names=run.path)
    assert config is None or isinstance(config, Config)
    assert machine is None or isinstance(machine, dict)
    assert shape is None or len(shape) == 3
    assert all(isinstance(size, int) and size > 0 for size in shape or ())
    return config, shape, machine


def test_a_good_config_json_is_read(folder):
    read = assert_read_or_refused(folder, json.dumps(GOOD_JSON).encode())
    assert read == (Config(), (28, 28, 1), {"replicas": 1})


@given(CONFIG_FILES)
@example(b"")
@example(b"\xff")
@example(b'{"seed": ' + b"1" * 5000 + b"}")
@example(b'{"data": {"image_shape": [28, 28, 0]}}')
@example(b'{"data": {"image_shape": [28, 28, null]}}')
@example(b"[" * 10**5)
@example(b'{"a":' * 10**5)
def test_any_config_json(folder, content):
    assert_read_or_refused(folder, content)


def nested(depth):
    return "[" * depth + "]" * depth


def deepest_json():
    """The greatest depth of nested lists that can be read."""

    def is_too_deep(depth):
        try:
            json.loads(nested(depth))
        except RecursionError:
            return True
        return False

    return bisect.bisect_left(range(10**5), True, key=is_too_deep)


@pytest.mark.parametrize("changed", ["seed", "model", "data"])
def test_a_config_json_at_the_greatest_depth(folder, changed):
    """Its values can be read, and are too deep to be shown in a message."""
    for depth in range(deepest_json() - 100, deepest_json() + 10):
        value = nested(depth)
        if changed == "data":
            value = '{"image_shape": ' + value + "}"
        text = json.dumps(GOOD_JSON | {changed: "HERE"}).replace('"HERE"', value)
        assert_read_or_refused(folder, text.encode())
