"""Compressed files: what goes in comes out, or an error does."""

import concurrent.futures
import dataclasses
import itertools
import json
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
from conftest import SMALL_RUN, run_script, write_idx
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.decomposition import PCA

from aelab.apps.compression import baselines, decompress
from aelab.apps.compression import file_format as container
from aelab.apps.compression.baselines import NAME
from aelab.apps.compression.codec import CODABLE, open_codec, to_integers
from aelab.apps.compression.compress import compress
from aelab.apps.compression.file_format import Block, Header, Member
from aelab.apps.compression.fit_tables import fit_tables
from aelab.apps.compression.rate_distortion import (
    bytes_at,
    curves,
    rate_distortion,
    table,
)
from aelab.apps.compression.tables import Tables
from aelab.config import Config
from aelab.data.idx import read_idx
from aelab.data.sources import load_split
from aelab.errors import UsageError
from aelab.models import build_model
from aelab.models.codec import SCALE_GAIN, LogisticPrior
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.runs.trained_model import load_trained
from aelab.training.run import train_and_evaluate


@pytest.fixture(scope="module")
def make_run(tmp_path_factory):
    """`make_run(model, ...)`: the directory of a short run, one for each choice."""
    made = {}

    def make(**fields):
        key = tuple(sorted(fields.items()))
        if key not in made:
            made[key] = str(tmp_path_factory.mktemp("runs") / "run")
            config = Config(
                batch_size=16,
                train_steps=20,
                train_examples=200,
                eval_examples=10,
                encoding_dim=12,
                **fields,
            )
            train_and_evaluate(config, made[key])
        return made[key]

    return make


@pytest.fixture(scope="module")
def codec_run(make_run):
    return make_run(model="codec", loss="log_mse", rate_weight=0.02)


@pytest.fixture(scope="module", params=CODABLE)
def codable_run(request, make_run, codec_run):
    return codec_run if request.param == "codec" else make_run(model=request.param)


def some_images(count, seed=0):
    """Garments, and noise as no training image is."""
    source = load_split(Config(seed=seed, eval_examples=300), "eval")
    images = source.read(np.arange(count) % len(source))
    images[::7] = np.random.default_rng(seed).integers(0, 256, images[::7].shape)
    return images


def expected(run_dir, images):
    """What comes out of the model when its code is rounded."""
    codec = open_codec(RunDirectory(run_dir))
    return codec.decode(codec.encode(images))


def round_trip(run_dir, paths, folder):
    """Compresses and decompresses; gives the file and what was written."""
    os.makedirs(folder, exist_ok=True)
    file = str(folder / "images.aelab")
    compress(run_dir, [str(path) for path in paths], file)
    return file, decompress(run_dir, file, str(folder / "out"))


# What goes in comes out.


@pytest.mark.parametrize(
    ("count", "suffix"), [(0, ""), (0, ".gz"), (1, ""), (300, ".gz")]
)
def test_an_idx_file_comes_back(tmp_path, codable_run, count, suffix):
    images = some_images(count)
    write_idx(tmp_path / f"some-idx3-ubyte{suffix}", images[..., 0])
    paths = [tmp_path / f"some-idx3-ubyte{suffix}"]
    _, done = round_trip(codable_run, paths, tmp_path / "x")
    assert (done.images, done.damage) == (count, [])
    assert done.files == [str(tmp_path / "x" / "out" / "some-idx3-ubyte")]
    with open(done.files[0], "rb") as file:
        content = file.read()
    assert content[:16] == (
        b"\0\0\x08\3" + count.to_bytes(4, "big") + b"\0\0\0\x1c\0\0\0\x1c"
    )
    if count:
        found = read_idx(done.files[0], 3)[..., np.newaxis]
        np.testing.assert_array_equal(found, expected(codable_run, images))


def test_pictures_and_idx_files_together_over_several_blocks(
    tmp_path, codec_run, monkeypatch
):
    monkeypatch.setattr("aelab.apps.compression.file_format.BLOCK_IMAGES", 7)
    images = some_images(33)
    write_idx(tmp_path / "first", images[:10, :, :, 0])
    write_idx(tmp_path / "last.gz", images[11:, :, :, 0])
    Image.fromarray(images[10, :, :, 0]).save(tmp_path / "between.bmp")
    paths = [tmp_path / name for name in ("first", "between.bmp", "last.gz")]
    _, done = round_trip(codec_run, paths, tmp_path / "x")
    names = [os.path.basename(path) for path in done.files]
    assert names == ["first", "between.png", "last"]
    wanted = expected(codec_run, images)[..., 0]
    np.testing.assert_array_equal(read_idx(done.files[0], 3), wanted[:10])
    np.testing.assert_array_equal(np.asarray(Image.open(done.files[1])), wanted[10])
    np.testing.assert_array_equal(read_idx(done.files[2], 3), wanted[11:])


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_other_shapes_come_back(tmp_path, channels):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    shape = (20, 20) if channels == 1 else (20, 20, 3)
    for name in "abcdefgh":
        pixels = rng.integers(0, 256, shape).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    config = Config(
        dataset="images",
        data_dir=str(folder),
        image_size=20,
        image_channels=channels,
        model="codec",
        rate_weight=0.1,
        train_steps=2,
        batch_size=4,
    )
    run_dir = str(tmp_path / "run")
    train_and_evaluate(config, run_dir)
    paths = sorted(folder.iterdir())
    _, done = round_trip(run_dir, paths, tmp_path / "x")
    assert [os.path.basename(path) for path in done.files] == [p.name for p in paths]
    images = np.stack([np.asarray(Image.open(path)) for path in paths])
    wanted = expected(run_dir, images.reshape(-1, 20, 20, channels))
    found = np.stack([np.asarray(Image.open(path)) for path in done.files])
    np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)


def test_the_file_is_as_small_as_the_probabilities_say(tmp_path, codable_run):
    write_idx(tmp_path / "images", some_images(3000)[..., 0])
    path = str(tmp_path / "x.aelab")
    done = compress(codable_run, [str(tmp_path / "images")], path)
    assert done.file_bytes == os.path.getsize(path)
    heads = 100  # of the file and of its block
    assert done.ideal_bytes < done.file_bytes < 1.002 * done.ideal_bytes + heads


def test_the_same_images_give_the_same_file(tmp_path, codec_run):
    write_idx(tmp_path / "images", some_images(50)[..., 0])
    for name in ("a", "b"):
        compress(codec_run, [str(tmp_path / "images")], str(tmp_path / f"{name}.aelab"))
    assert (tmp_path / "a.aelab").read_bytes() == (tmp_path / "b.aelab").read_bytes()


def test_memory_stays_flat(tmp_path, codec_run):
    """Images are read, coded and written a block at a time."""
    peaks = []
    for count in (5_000, 50_000):
        write_idx(tmp_path / "images", some_images(count)[..., 0])
        tracemalloc.start()
        round_trip(codec_run, [tmp_path / "images"], tmp_path / str(count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


# Another process, other threads, other batches.


def test_other_batches_give_the_same_symbols_and_nearly_the_same_pixels(codable_run):
    codec, images = open_codec(RunDirectory(codable_run)), some_images(200)
    symbols = codec.encode(images)
    pixels = codec.decode(symbols).astype(int)
    for rows in (1, 7, 64):
        codec._rows = rows
        np.testing.assert_array_equal(codec.encode(images), symbols)
        assert np.abs(codec.decode(symbols).astype(int) - pixels).max() <= 1


def test_another_process_with_one_thread_decodes_the_same(tmp_path, codec_run):
    write_idx(tmp_path / "images", some_images(300)[..., 0])
    file, done = round_trip(codec_run, [tmp_path / "images"], tmp_path)
    code = f"""
import os, sys
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
from aelab.system.startup import start_tensorflow
start_tensorflow()
from aelab.apps.compression import file_format as container
from aelab.apps.compression import baselines, decompress
from aelab.apps.compression import baselines
from aelab.apps.compression.codec import find_codec
from aelab.apps.compression.tables import crc_of
from aelab.runs.directory import RunDirectory
run, path = {codec_run!r}, {file!r}
with container.opened(path) as content:
    header, place = container.read_header(content, path)
    codec = find_codec(RunDirectory(run), header.key, header.tables_crc, path)
    for block in container.find_blocks(content, place, header.images):
        symbols = codec.tables.decode(content[block.start:block.end], block.images)
        assert crc_of(symbols) == block.symbols_crc
codec_rows = decompress(run, path, {str(tmp_path / "other")!r})
"""
    done_elsewhere = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done_elsewhere.returncode == 0, done_elsewhere.stderr
    here = read_idx(done.files[0], 3).astype(int)
    there = read_idx(str(tmp_path / "other" / "images"), 3)
    assert np.abs(there - here).max() <= 1


# Damage.


@pytest.fixture(scope="module")
def small_file(codec_run, tmp_path_factory):
    """A file of three blocks of two images, and the images that come out of it."""
    folder = tmp_path_factory.mktemp("small")
    images = some_images(6)
    write_idx(folder / "six", images[..., 0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aelab.apps.compression.file_format.BLOCK_IMAGES", 2)
        compress(codec_run, [str(folder / "six")], str(folder / "six.aelab"))
    return (folder / "six.aelab").read_bytes(), expected(codec_run, images)[..., 0]


def opened_or_refused(content, path):
    """The header and blocks of a file, or the message with which it is refused."""
    path.write_bytes(content)
    try:
        with container.opened(str(path)) as read:
            header, place = container.read_header(read, str(path))
            found = list(container.find_blocks(read, place, header.images))
    except UsageError as error:
        assert str(path) in str(error)
        return str(error)
    damage = [part for part in found if isinstance(part, str)]
    return damage[0] if damage else (header, found)


def test_a_bit_flipped_anywhere_is_found(tmp_path, small_file):
    content, _ = small_file
    path = tmp_path / "x.aelab"
    assert isinstance(opened_or_refused(content, path), tuple)
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        assert isinstance(opened_or_refused(bytes(damaged), path), str), bit


def test_a_cut_anywhere_is_found(tmp_path, small_file):
    content, _ = small_file
    for length in range(len(content)):
        found = opened_or_refused(content[:length], tmp_path / "x.aelab")
        assert isinstance(found, str), length
    assert isinstance(opened_or_refused(content + b"\0", tmp_path / "x"), str)


def test_a_damaged_file_writes_nothing(tmp_path, codec_run, small_file):
    content, _ = small_file
    (tmp_path / "x.aelab").write_bytes(content[:-1])
    with pytest.raises(UsageError, match="--salvage"):
        decompress(codec_run, str(tmp_path / "x.aelab"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lost", [(0,), (1,), (2,), (0, 2)])
def test_salvage_gives_the_blocks_that_are_whole(tmp_path, codec_run, small_file, lost):
    content, images = small_file
    damaged = bytearray(content)
    _header, blocks = opened_or_refused(content, tmp_path / "whole")
    for number in lost:
        damaged[blocks[number].start] ^= 1
    (tmp_path / "x.aelab").write_bytes(damaged)
    done = decompress(codec_run, str(tmp_path / "x.aelab"), str(tmp_path), salvage=True)
    wanted = images.copy()
    for number in lost:
        wanted[2 * number : 2 * number + 2] = 0
        missing = f"the images from {2 * number} to {2 * number + 1} are missing"
        assert missing in done.damage
    assert done.images == 6 - 2 * len(lost)
    np.testing.assert_array_equal(read_idx(done.files[0], 3), wanted)


def test_nothing_whole_is_an_error(tmp_path, codec_run, small_file):
    """And not a file of black images, however many the header says there are."""
    header, _ = opened_or_refused(small_file[0], tmp_path / "x")
    many = header._replace(members=[Member(container.IDX, 2**31, "many")])
    for content in (container.pack_header(header), container.pack_header(many)):
        (tmp_path / "x.aelab").write_bytes(content)
        with pytest.raises(UsageError, match="no part of it is whole"):
            decompress(codec_run, str(tmp_path / "x.aelab"), str(tmp_path), True)
    assert not (tmp_path / "six").exists()


def test_a_file_made_of_marks_is_soon_given_up(tmp_path):
    """Each mark promises a block as long as the rest; none is read more than needed."""
    body = container.pack_header(Header(bytes(8), 0, (28, 28, 1), [Member(1, 99, "x")]))
    mark = container.pack_block(0, 1, 0, b"")[:10]
    block = mark + (150_000).to_bytes(4, "little") + bytes(8)
    read = []

    class Watched(bytes):
        def __getitem__(self, key):
            found = super().__getitem__(key)
            read.append(len(found) if isinstance(key, slice) else 1)
            return found

    content = Watched(body + block * 20_000)
    header, place = container.read_header(content, "x")
    found = list(container.find_blocks(content, place, header.images))
    assert found and all(isinstance(part, str) for part in found)
    assert sum(read) < 20 * len(content)


def test_lost_pictures_are_not_written(tmp_path, codec_run, monkeypatch):
    monkeypatch.setattr("aelab.apps.compression.file_format.BLOCK_IMAGES", 1)
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for path, image in zip(paths, some_images(3), strict=True):
        Image.fromarray(image[..., 0]).save(path)
    compress(codec_run, list(map(str, paths)), str(tmp_path / "x.aelab"))
    content = bytearray((tmp_path / "x.aelab").read_bytes())
    _, blocks = opened_or_refused(bytes(content), tmp_path / "whole")
    content[blocks[1].start] ^= 1
    (tmp_path / "x.aelab").write_bytes(content)
    out = str(tmp_path / "out")
    done = decompress(codec_run, str(tmp_path / "x.aelab"), out, salvage=True)
    assert sorted(os.listdir(out)) == ["a.png", "c.png"]
    assert done.images == 2 and done.damage


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_read_or_refused(tmp_path_factory, small_file, rest, is_start):
    start = small_file[0][:40] if is_start else b""
    path = tmp_path_factory.getbasetemp() / "any.aelab"
    assert isinstance(opened_or_refused(start + rest, path), str)


def test_a_promise_of_too_much_takes_no_memory(tmp_path):
    body = b"k" * 8 + b"t" * 4 + b"\x1c\x1c\x01" + b"\xff\xff\xff\xff\x0f"
    for size in (len(body), 2**32 - 1):
        start = container._START.pack(b"\x89aelab\r\n", 1, size) + body
        content = start + container._CRC.pack(container.zlib.crc32(start))
        tracemalloc.start()
        assert isinstance(opened_or_refused(content, tmp_path / "x"), str)
        assert tracemalloc.get_traced_memory()[1] < 2**21
        tracemalloc.stop()


def test_a_later_version_says_so(tmp_path, small_file):
    content = bytearray(small_file[0])
    content[8] = 2
    assert "version 2" in opened_or_refused(bytes(content), tmp_path / "x")


def test_another_model_says_so(tmp_path, codec_run, make_run, small_file):
    other = make_run(model="codec", loss="log_mse", rate_weight=0.02, seed=1)
    open_codec(RunDirectory(other))
    (tmp_path / "x.aelab").write_bytes(small_file[0])
    with pytest.raises(UsageError, match="does not have"):
        decompress(other, str(tmp_path / "x.aelab"), str(tmp_path / "out"))


def test_other_tables_say_so(tmp_path, codec_run, small_file):
    content, _ = small_file
    header, _ = opened_or_refused(content, tmp_path / "x")
    changed = header._replace(tables_crc=header.tables_crc ^ 1)
    blocks = content[len(container.pack_header(header)) :]
    (tmp_path / "x.aelab").write_bytes(container.pack_header(changed) + blocks)
    with pytest.raises(UsageError, match="other tables"):
        decompress(codec_run, str(tmp_path / "x.aelab"), str(tmp_path / "out"))


def test_other_symbols_than_went_in_are_an_error(tmp_path, codec_run, small_file):
    content, _ = small_file
    header, blocks = opened_or_refused(content, tmp_path / "x")
    first = blocks[0]
    payload = content[first.start : first.end]
    block = container.pack_block(0, 2, first.symbols_crc ^ 1, payload)
    (tmp_path / "x.aelab").write_bytes(
        container.pack_header(header) + block + content[first.end :]
    )
    with pytest.raises(UsageError, match="other symbols"):
        decompress(codec_run, str(tmp_path / "x.aelab"), str(tmp_path / "out"))
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "", "x\0y", ".tmp-x", "x" * 256])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, codec_run, small_file, name):
    header, _ = opened_or_refused(small_file[0], tmp_path / "x")
    content = container.pack_header(header._replace(members=[Member(1, 0, name)]))
    (tmp_path / "x.aelab").write_bytes(content)
    with pytest.raises(UsageError, match="has a file by the name"):
        decompress(codec_run, str(tmp_path / "x.aelab"), str(tmp_path / "out"))


def test_a_damaged_model_says_so(tmp_path, make_run):
    run_dir = make_run(model="codec", rate_weight=0.02, seed=2)
    codec = open_codec(RunDirectory(run_dir))
    path = os.path.join(run_dir, "codec", f"{codec.key.hex()}.npz")
    arrays = checkpoints.load(path)
    arrays["model/code/bias"] = arrays["model/code/bias"] + 1
    np.savez(path, **arrays)
    with pytest.raises(UsageError, match="other weights"):
        open_codec(RunDirectory(run_dir))


def test_a_run_that_goes_on_still_decodes_its_older_files(tmp_path, make_run):
    run_dir = make_run(model="codec", rate_weight=0.02, seed=3)
    write_idx(tmp_path / "images", some_images(5)[..., 0])
    file, done = round_trip(run_dir, [tmp_path / "images"], tmp_path)
    before = read_idx(done.files[0], 3)
    config = RunDirectory(run_dir).read_config()
    train_and_evaluate(dataclasses.replace(config, train_steps=40), run_dir)
    again = decompress(run_dir, file, str(tmp_path / "again"))
    np.testing.assert_array_equal(read_idx(again.files[0], 3), before)


# Bad input.


def refusal(run_dir, *paths, output="x.aelab", folder=None):
    """The message with which files are refused; nothing is written."""
    with pytest.raises(UsageError) as caught:
        compress(run_dir, [str(path) for path in paths], str(output))
    assert not os.path.exists(output)
    return str(caught.value)


def test_bad_pictures_are_named(tmp_path, codec_run):
    out = tmp_path / "x.aelab"
    pixels = np.zeros((28, 28), np.uint8)
    Image.fromarray(pixels[:14]).save(tmp_path / "small.png")
    Image.fromarray(np.zeros((28, 28, 3), np.uint8)).save(tmp_path / "colour.png")
    Image.fromarray(np.zeros((28, 28, 2), np.uint8)).save(tmp_path / "alpha.png")
    Image.fromarray(np.zeros((28, 28), np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(pixels).save(tmp_path / "cut.png")
    cut = (tmp_path / "cut.png").read_bytes()[:-30]
    (tmp_path / "cut.png").write_bytes(cut)
    for name, words in {
        "small.png": "28 x 14 pixels",
        "colour.png": "RGB",
        "alpha.png": "LA",
        "deep.png": "I;16",
        "text.png": "no picture",
        "cut.png": "cut.png: ",
        "none.png": "No such file",
    }.items():
        message = refusal(codec_run, tmp_path / name, output=out)
        assert str(tmp_path / name) in message and words in message


def test_bad_idx_files_are_named(tmp_path, codec_run):
    out = tmp_path / "x.aelab"
    write_idx(tmp_path / "small", np.zeros((3, 14, 28), np.uint8))
    write_idx(tmp_path / "labels", np.zeros(3, np.uint8))
    write_idx(tmp_path / "cut", np.zeros((3, 28, 28), np.uint8))
    write_idx(tmp_path / "long", np.zeros((0, 28, 28), np.uint8))
    (tmp_path / "long").write_bytes((tmp_path / "long").read_bytes() + b"x")
    assert "longer" in refusal(codec_run, tmp_path / "long", output=out)
    (tmp_path / "cut").write_bytes((tmp_path / "cut").read_bytes()[:-1])
    assert "14 x 28 x 1" in refusal(codec_run, tmp_path / "small", output=out)
    assert "3-dimensional" in refusal(codec_run, tmp_path / "labels", output=out)
    assert "cut short" in refusal(codec_run, tmp_path / "cut", output=out)
    assert "directory" in refusal(codec_run, tmp_path, output=out)


def test_names_that_could_not_be_written_are_refused(tmp_path, codec_run):
    for name in (".gz", ".tmp-x", "y" * 253):
        if name == "y" * 253:
            Image.fromarray(np.zeros((28, 28), np.uint8)).save(tmp_path / name, "PNG")
        else:
            write_idx(tmp_path / name, some_images(1)[..., 0])
        out = tmp_path / "x.aelab"
        assert "later: " in refusal(codec_run, tmp_path / name, output=out)


def test_pictures_are_turned_as_they_ask_for(tmp_path, codec_run):
    image = some_images(4)[3, :, :, 0]
    Image.fromarray(image).save(tmp_path / "straight.png")
    exif = Image.Exif()
    exif[274] = 3
    Image.fromarray(image[::-1, ::-1]).save(tmp_path / "turned.png", exif=exif)
    paths = [tmp_path / "straight.png", tmp_path / "turned.png"]
    _, done = round_trip(codec_run, paths, tmp_path)
    straight, turned = (np.asarray(Image.open(path)) for path in done.files)
    np.testing.assert_array_equal(straight, turned)


def test_an_animation_is_refused(tmp_path, codec_run):
    frames = [Image.fromarray(image[..., 0]) for image in some_images(3)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    out = tmp_path / "x.aelab"
    assert "several" in refusal(codec_run, tmp_path / "x.gif", output=out)


def test_two_that_learn_tables_at_once_end_with_the_same(make_run):
    run_dir = make_run(model="codec", rate_weight=0.02, seed=4)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(open_codec, RunDirectory(run_dir)) for _ in range(3)]
        assert len({future.result().tables.crc for future in futures}) == 1
    assert len(os.listdir(os.path.join(run_dir, "codec"))) == 1


def test_two_files_of_one_name_are_refused(tmp_path, codec_run):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_idx(tmp_path / name / "images", some_images(1)[..., 0])
    paths = [tmp_path / "a" / "images", tmp_path / "b" / "images"]
    message = refusal(codec_run, *paths, output=tmp_path / "x.aelab")
    assert all(str(path) in message for path in paths)


def test_bad_outputs_are_refused(tmp_path, codec_run):
    write_idx(tmp_path / "images", some_images(1)[..., 0])
    images = tmp_path / "images"
    assert ".aelab" in refusal(codec_run, images, output=tmp_path / "x.bin")
    assert "no folder" in refusal(codec_run, images, output=tmp_path / "no/x.aelab")
    os.rename(images, tmp_path / "x.aelab")
    with pytest.raises(UsageError, match="would replace the input"):
        compress(codec_run, [str(tmp_path / "x.aelab")], str(tmp_path / "x.aelab"))


def test_a_file_does_not_replace_itself(tmp_path, codec_run):
    write_idx(tmp_path / "x.aelab.gz", some_images(1)[..., 0])
    compress(codec_run, [str(tmp_path / "x.aelab.gz")], str(tmp_path / "x.aelab"))
    with pytest.raises(UsageError, match="replace its own source"):
        decompress(codec_run, str(tmp_path / "x.aelab"), str(tmp_path))


@pytest.mark.parametrize("model", ["conv", "unet"])
def test_models_with_a_code_larger_than_an_image_are_refused(make_run, model, tmp_path):
    run_dir = str(tmp_path / "run")
    train_and_evaluate(
        Config(model=model, train_steps=1, train_examples=4, eval_examples=4), run_dir
    )
    with pytest.raises(UsageError, match=f"--model={model}"):
        open_codec(RunDirectory(run_dir))


def test_a_step_for_a_codec_is_refused(codec_run):
    with pytest.raises(UsageError, match="quantiser_step=2"):
        open_codec(RunDirectory(codec_run), step=2.0)


@pytest.mark.parametrize("step", [-1.0, 1e-8, 1e300, float("nan"), float("inf")])
def test_a_step_beyond_reason_is_refused(make_run, step):
    with pytest.raises(UsageError, match=r"must be from 0\.001 to 1000"):
        open_codec(RunDirectory(make_run(model="dense")), step=step)


def test_codes_too_large_for_tables_are_refused():
    with pytest.raises(UsageError, match="larger --quantiser_step"):
        fit_tables(np.array([[0], [5000]], np.int32), 1.0)


def test_a_coarser_step_takes_fewer_bytes(make_run, tmp_path):
    run_dir = make_run(model="dense")
    write_idx(tmp_path / "images", some_images(100)[..., 0])
    sizes = [
        compress(
            run_dir,
            [str(tmp_path / "images")],
            str(tmp_path / "x.aelab"),
            quantiser_step=step,
        ).file_bytes
        for step in (0.01, 0.1, 1.0)
    ]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3


# Tables.


@given(
    st.lists(st.tuples(st.integers(-40, 40), st.integers(-1, 1)), min_size=1),
    st.lists(st.tuples(st.integers(-45, 45), st.integers(-3, 3))),
)
def test_tables_code_what_they_have(seen, coded):
    tables = fit_tables(np.array(seen, np.int32), 1.0)
    symbols = np.array(coded, np.int32).reshape(-1, 2)
    highest = tables.lowest + tables.sizes - 1
    symbols = np.clip(symbols, tables.lowest, highest).astype(np.int32)
    content, ideal_bytes = tables.encode(symbols)
    np.testing.assert_array_equal(tables.decode(content, len(symbols)), symbols)
    assert len(content) <= ideal_bytes * 1.001 + 16
    again = Tables.from_arrays(tables.arrays())
    assert again.crc == tables.crc


def test_probabilities_are_those_of_training_and_sum_to_one():
    rng = np.random.default_rng(0)
    symbols = np.rint(rng.normal(3, 2, (20_000, 1))).astype(np.int32)
    tables = fit_tables(symbols, 1.0)
    assert tables.classes.sum() == 2**24
    np.testing.assert_array_equal(tables.frequencies.sum(axis=1), 2**24)
    found = tables.classes / 2**24 @ (tables.frequencies / 2**24)
    shares = np.bincount(symbols[:, 0] - tables.lowest[0], minlength=tables.sizes[0])
    np.testing.assert_allclose(found, shares / 20_000, atol=0.02)


def test_classes_find_what_places_have_in_common():
    """Four places that hold one integer of eight take little more than 3 bits."""
    rng = np.random.default_rng(0)
    symbols = np.repeat(rng.integers(0, 8, (20_000, 1)), 4, axis=1).astype(np.int32)
    tables = fit_tables(symbols[:10_000], 1.0)
    bits = 8 * tables.encode(symbols[10_000:])[1] / 10_000
    assert 3 < bits < 4


def test_the_class_that_takes_fewest_bits_is_taken():
    rng = np.random.default_rng(1)
    symbols = rng.integers(-3, 4, (500, 3)).astype(np.int32)
    tables = fit_tables(symbols, 1.0)
    bits = tables.bits(symbols)
    assert bits.shape == (len(tables.classes), 500)
    places = np.cumsum(tables.sizes) - tables.sizes + symbols - tables.lowest
    shares = tables.frequencies / 2**24
    wanted = -np.log2(shares[:, places]).sum(axis=2)
    wanted -= np.log2(tables.classes / 2**24)[:, None]
    np.testing.assert_allclose(bits, wanted, rtol=1e-5)
    content, ideal_bytes = tables.encode(symbols)
    assert ideal_bytes == pytest.approx(wanted.min(axis=0).sum() / 8)
    assert ideal_bytes < len(content) < ideal_bytes + 16


def test_bad_tables_are_refused():
    good = fit_tables(np.zeros((3, 2), np.int32), 1.0).arrays()
    for name, change in {
        "tables/step": lambda a: a * 0,
        "tables/lowest": lambda a: a[:1],
        "tables/sizes": lambda a: a + 1,
        "tables/classes": lambda a: a[:1],
        "tables/frequencies": lambda a: a[::-1] * 2,
    }.items():
        with pytest.raises(ValueError):
            Tables.from_arrays(good | {name: change(good[name])})


def test_content_with_something_behind_it_is_refused():
    tables = fit_tables(np.arange(60, dtype=np.int32).reshape(30, 2), 1.0)
    content, _ = tables.encode(np.arange(60, dtype=np.int32).reshape(30, 2))
    with pytest.raises(ValueError):
        tables.decode(content, 20)
    with pytest.raises(ValueError):
        tables.decode(content[:-3], 30)


def test_without_constriction_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(UsageError, match=r"\[codec\]"):
        fit_tables(np.zeros((3, 2), np.int32), 1.0)


def test_integers_are_the_nearest_multiples():
    code = np.array([[0.24, 0.26, -0.26, 1e30, -1e30, np.inf]], np.float32)
    np.testing.assert_array_equal(
        to_integers(code, 0.5), [[0, 1, -1, 2**20, -(2**20), 2**20]]
    )


# The container.


MEMBERS = st.lists(
    st.builds(
        Member,
        st.sampled_from([container.PICTURE, container.IDX]),
        st.integers(0, 2**20),
        st.text(st.characters(codec="utf-8"), max_size=20),
    ),
    max_size=4,
)


@given(st.binary(min_size=8, max_size=8), st.integers(0, 2**32 - 1), MEMBERS)
def test_any_header_comes_back(key, crc, members):
    header = Header(key, crc, (28, 300, 3), members)
    content = container.pack_header(header)
    assert container.read_header(content, "x") == (header, len(content))


@given(st.lists(st.tuples(st.integers(1, 9), st.binary(max_size=40)), max_size=5))
def test_any_blocks_come_back(parts):
    firsts = list(itertools.accumulate((count for count, _ in parts), initial=0))
    content = b"".join(
        container.pack_block(first, count, 5, payload)
        for first, (count, payload) in zip(firsts, parts, strict=False)
    )
    found = list(container.find_blocks(content, 0, firsts[-1]))
    assert all(isinstance(block, Block) for block in found)
    payloads = [content[block.start : block.end] for block in found]
    assert payloads == [payload for _, payload in parts]


# The model.


def test_the_prior_is_a_distribution_over_integers():
    """Its bytes are those of the logistic distribution's intervals."""
    prior = LogisticPrior(2)
    prior.build()
    prior.set_weights([np.array([0.3, -2.0]), np.array([0.0, 0.1])])
    integers = np.arange(-60, 61, dtype=np.float32)
    code = np.stack([integers, np.full_like(integers, -2.0)], axis=1)
    constant = -np.log2(np.tanh(0.25 / np.exp(SCALE_GAIN * 0.1))) / 8
    probabilities = 2 ** (-8 * (prior(code).numpy() - constant))
    assert probabilities.sum() == pytest.approx(1, abs=1e-4)
    edges = 1 / (1 + np.exp(-(np.arange(-60, 62) - 0.5 - 0.3)))
    np.testing.assert_allclose(probabilities[50:75], np.diff(edges)[50:75], rtol=1e-4)


def test_training_dithers_and_use_rounds(codec_run):
    from aelab.training.step import autoencode, code_bytes

    _config, model, _shape, _ = load_trained(RunDirectory(codec_run), "best")
    images = some_images(4).astype(np.float32) / 255
    code = model.encoder(images)
    output, rounded = autoencode(model, images, training=False)
    np.testing.assert_array_equal(rounded, np.round(code))
    np.testing.assert_array_equal(output, model(images))
    dither = np.full((4, 12), 0.25, np.float32)
    _, dithered = autoencode(model, images, training=True, dither=dither)
    np.testing.assert_array_equal(dithered, code + 0.25)
    np.testing.assert_array_equal(
        code_bytes(model, rounded)["code_bytes"], model.prior(rounded)
    )


def test_a_file_takes_no_more_than_the_prior_said(tmp_path):
    """The figure of training is honest: tables take a little less, not more."""
    config = Config(
        model="codec",
        encoding_dim=16,
        loss="log_mse",
        rate_weight=0.05,
        learning_rate=2e-3,
        train_examples=1000,
        eval_examples=500,
        epochs=10,
        eval_every_epochs=10,
        batch_size=50,
    )
    figures = train_and_evaluate(config, str(tmp_path / "run"))
    images = load_split(config, "eval").read(np.arange(500))
    write_idx(tmp_path / "images", images[..., 0])
    done = compress(
        str(tmp_path / "run"), [str(tmp_path / "images")], str(tmp_path / "x.aelab")
    )
    each = done.ideal_bytes / done.images
    assert 0.6 * figures["code_bytes"] < each < 1.02 * figures["code_bytes"]


def test_every_weight_learns(codec_run):
    before = build_model(RunDirectory(codec_run).read_config(), (28, 28, 1))
    after = load_trained(RunDirectory(codec_run), "latest").model
    assert len(after.trainable_variables) == 14
    for old, new in zip(before.variables, after.variables, strict=True):
        assert old.path == new.path
        assert not np.array_equal(old, new), new.path
    assert len({v.path for v in after.variables}) == 14
    assert tf.reduce_all([tf.reduce_all(tf.math.is_finite(v)) for v in after.variables])


# The scripts.


def test_the_scripts(tmp_path):
    run_dir, file = str(tmp_path / "run"), str(tmp_path / "x.aelab")
    trained = run_script("train", *SMALL_RUN, "--epochs=1", f"--run_dir={run_dir}")
    assert trained.returncode == 0, trained.stderr
    count = container.BLOCK_IMAGES + 20
    write_idx(tmp_path / "some-idx3-ubyte.gz", some_images(count)[..., 0])
    done = run_script(
        *("compress", f"--run_dir={run_dir}", str(tmp_path / "some-idx3-ubyte.gz")),
        f"--output={file}",
    )
    assert (done.returncode, done.stderr) == (0, "")
    size = os.path.getsize(file)
    assert f"{count:,} images, {size:,} bytes" in done.stdout
    assert f"{size / count:.2f} bytes per image" in done.stdout
    done = run_script(
        "decompress", f"--run_dir={run_dir}", file, f"--output={tmp_path / 'out'}"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(tmp_path / "out") == ["some-idx3-ubyte"]
    with open(file, "r+b") as damaged:
        damaged.seek(-1, os.SEEK_END)
        damaged.write(b"\xff")
    bad = run_script(
        "decompress", f"--run_dir={run_dir}", file, f"--output={tmp_path / 'bad'}"
    )
    assert bad.returncode == 2 and file in bad.stderr
    assert not (tmp_path / "bad").exists()
    bad = run_script(
        *("decompress", f"--run_dir={run_dir}", file, "--salvage"),
        f"--output={tmp_path / 'bad'}",
    )
    assert bad.returncode == 1 and "is damaged" in bad.stderr
    assert os.listdir(tmp_path / "bad") == ["some-idx3-ubyte"]


# Beside other codecs.


def test_rate_and_distortion_of_everything(tmp_path, codec_run, make_run):
    runs = [codec_run, make_run(model="dense")]
    points = rate_distortion(runs, str(tmp_path / "rd"))
    written = json.loads((tmp_path / "rd" / "rate_distortion.json").read_text())
    assert written == {"images": 10, "points": points}
    with Image.open(tmp_path / "rd" / "rate_distortion.png") as plot:
        assert min(plot.size) > 300
    by_codec = {point["codec"] for point in points}
    ours = {"learned codec", "run, rounded"}
    pictures = {f"{kind} mosaic" for kind in ("PNG", "JPEG", "WEBP")}
    pictures |= {name.replace(" mosaic", ", one file each") for name in pictures}
    assert by_codec >= ours | pictures | {"PCA"}
    for point in points:
        assert point["bytes"] > (point["ideal_bytes"] or 0)
        assert point["psnr"] > 5 and point["ssim"] <= 1
        assert (point["psnr"] == 100) == point["codec"].startswith("PNG")
    text = table(points)
    assert all(name in text for name in by_codec)


def test_what_a_point_counts_is_the_file(tmp_path, codec_run):
    """Of the same images, under the name that the measurement takes."""
    source = load_split(RunDirectory(codec_run).read_config(), "eval")
    write_idx(tmp_path / NAME, source.read(np.arange(10))[..., 0])
    done = compress(codec_run, [str(tmp_path / NAME)], str(tmp_path / "x.aelab"))
    (point,) = rate_distortion([codec_run], str(tmp_path), "best", rivals=False)
    assert point["bytes"] == done.file_bytes / 10
    assert point["ideal_bytes"] == done.ideal_bytes / 10


def test_pca_points_are_what_scikit_learn_and_rounding_give():
    source = load_split(Config(train_examples=300), "train")
    images = source.read(np.arange(300))
    first = next(baselines.principal_components(images[:50], images[50:]))
    flat = images.reshape(300, -1) / 255
    pca = PCA(16, svd_solver="full").fit(flat[50:])
    codes = np.rint(pca.transform(flat[:50]) / 0.35) * 0.35
    wanted = np.clip(pca.inverse_transform(codes), 0, 1) * 255
    assert first.setting == "16 components, step 0.35"
    off = np.abs(first.images.reshape(50, -1) - wanted)
    assert np.mean(off) < 1  # of 255; components may differ in sign, codes at edges


@pytest.mark.parametrize("count", [1, 2, 7, 12])
@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 30, 3)])
def test_a_mosaic_comes_apart(count, shape):
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)
    mosaic = baselines._Mosaic(count, *shape)
    whole = mosaic.join(images)
    assert whole.ndim == 3 and whole.shape[2] == shape[2]
    np.testing.assert_array_equal(whole[: shape[0], : shape[1]], images[0])
    np.testing.assert_array_equal(mosaic.split(whole), images)


def test_bytes_between_points():
    curve = [(10.0, 20.0), (20.0, 22.0)]
    assert bytes_at(curve, 21.0) == 15.0
    assert bytes_at(curve, 20.0) == 10.0
    assert bytes_at(curve, 19.9) is None and bytes_at(curve, 22.1) is None


def test_a_curve_is_of_the_points_that_no_other_beats():
    points = [
        {"codec": "a", "bytes": size, "psnr": level}
        for size, level in [(3, 20), (1, 18), (2, 21), (2, 19), (4, 22)]
    ]
    assert curves(points) == {"a": [(1, 18), (2, 21), (4, 22)]}


def test_runs_of_other_images_are_refused(codec_run, tmp_path):
    other = str(tmp_path / "other")
    few = {"train_steps": 1, "train_examples": 4, "eval_examples": 4}
    train_and_evaluate(Config(model="codec", **few), other)
    with pytest.raises(UsageError, match="same evaluation images"):
        rate_distortion([codec_run, other], str(tmp_path / "rd"))
