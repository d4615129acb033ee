"""Compressed images come back, or an error says why not."""

import importlib
import os
import signal
import sys
import tracemalloc

import numpy as np
import pytest
from codec_runs import (
    EVAL_IMAGES,
    decoded,
    opened,
    round_trip,
    some_images,
    train,
    untrained_run,
)
from conftest import run_script, write_idx
from PIL import Image

from aelab.apps.compression import compress, decompress
from aelab.apps.compression.file_blocks import find_blocks, pack_block
from aelab.apps.compression.file_format import (
    IDX,
    Member,
    pack_copy,
    pack_header,
    read_header,
)
from aelab.cli import exit_code
from aelab.config import Config
from aelab.data.idx import read_idx
from aelab.data.sources import load_part
from aelab.errors import UsageError
from aelab.runs.directory import RunDirectory
from aelab.training.run import train_and_evaluate

pytest_plugins = ["codec_runs"]

BLOCK_IMAGES = "aelab.apps.compression.file_blocks.BLOCK_IMAGES"


def test_averaged_weights_are_those_of_the_file(tmp_path_factory, tmp_path):
    fields = {"train_examples": 200, "batch_size": 16, "train_steps": 20}
    run_dir, _ = train(tmp_path_factory, model="dense", weight_average=0.9, **fields)
    images = some_images(20)
    write_idx(tmp_path / "images", images[..., 0])
    _, done = round_trip(run_dir, [tmp_path / "images"], tmp_path / "x")
    expected = decoded(run_dir, images)[..., 0]
    np.testing.assert_array_equal(read_idx(done.files[0], 3), expected)


def test_idx_files_come_back(tmp_path, any_codec_run):
    counts = {
        "empty": 0,
        "empty2.gz": 0,
        "one-idx3-ubyte": 1,
        "many-idx3-ubyte.gz": 300,
    }
    images = some_images(301)
    parts = dict(zip(counts, np.split(images, [0, 0, 1]), strict=True))
    for name, part in parts.items():
        write_idx(tmp_path / name, part[..., 0])
    paths = [tmp_path / name for name in counts]
    _, done = round_trip(any_codec_run, paths, tmp_path / "x")
    assert (done.images, done.damage) == (301, [])
    names = [name.removesuffix(".gz") for name in counts]
    assert done.files == [str(tmp_path / "x" / "out" / name) for name in names]
    expected = decoded(any_codec_run, images)
    expected_parts = np.split(expected, [0, 0, 1])
    for path, part in zip(done.files, expected_parts, strict=True):
        with open(path, "rb") as file:
            header, pixels = file.read(16), file.read()
        size = len(part).to_bytes(4, "big")
        assert header == b"\0\0\x08\3" + size + b"\0\0\0\x1c\0\0\0\x1c"
        assert pixels == part.tobytes()


def test_a_file_without_images_comes_back(tmp_path, dense_run):
    write_idx(tmp_path / "none", some_images(0)[..., 0])
    _, done = round_trip(dense_run, [tmp_path / "none"], tmp_path / "x")
    assert (done.images, done.damage) == (0, [])
    with open(done.files[0], "rb") as file:
        assert file.read() == (tmp_path / "none").read_bytes()


def test_pictures_and_idx_files_share_blocks(tmp_path, codec_run, monkeypatch):
    monkeypatch.setattr(BLOCK_IMAGES, 7)
    images = some_images(33)
    write_idx(tmp_path / "first", images[:10, :, :, 0])
    write_idx(tmp_path / "last.gz", images[11:, :, :, 0])
    Image.fromarray(images[10, :, :, 0]).save(tmp_path / "between.bmp")
    paths = [tmp_path / name for name in ("first", "between.bmp", "last.gz")]
    _, done = round_trip(codec_run, paths, tmp_path / "x")
    names = [os.path.basename(path) for path in done.files]
    assert names == ["first", "between.png", "last"]
    # Block by block, as rounding may depend on the number of images.
    blocks = [decoded(codec_run, images[n : n + 7]) for n in range(0, 33, 7)]
    expected = np.concatenate(blocks)[..., 0]
    np.testing.assert_array_equal(read_idx(done.files[0], 3), expected[:10])
    np.testing.assert_array_equal(np.asarray(Image.open(done.files[1])), expected[10])
    np.testing.assert_array_equal(read_idx(done.files[2], 3), expected[11:])


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_other_shapes_come_back(tmp_path, channels):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    shape = (20, 20) if channels == 1 else (20, 20, 3)
    for name in "abcdefgh":
        pixels = rng.integers(0, 256, shape).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    run_dir = untrained_run(
        tmp_path / "run",
        (20, 20, channels),
        dataset="images",
        data_dir=str(folder),
        image_size=20,
        image_channels=channels,
        model="codec",
    )
    paths = sorted(folder.iterdir())
    _, done = round_trip(run_dir, paths, tmp_path / "x")
    assert [os.path.basename(path) for path in done.files] == [p.name for p in paths]
    images = np.stack([np.asarray(Image.open(path)) for path in paths])
    expected = decoded(run_dir, images.reshape(-1, 20, 20, channels))
    output = np.stack([np.asarray(Image.open(path)) for path in done.files])
    np.testing.assert_array_equal(output.reshape(expected.shape), expected)


def test_the_file_is_as_small_as_the_probabilities_say(tmp_path, any_codec_run):
    write_idx(tmp_path / "images", some_images(3000)[..., 0])
    path = str(tmp_path / "x.aelab")
    done = compress(any_codec_run, [str(tmp_path / "images")], path)
    assert done.file_bytes == os.path.getsize(path)
    assert done.pixel_bytes == 3000 * 28 * 28
    headers = 100  # of the file and of its block
    assert done.ideal_bytes < done.file_bytes < 1.002 * done.ideal_bytes + headers


def test_the_same_images_give_the_same_file(tmp_path, codec_run):
    write_idx(tmp_path / "images", some_images(50)[..., 0])
    for name in ("a", "b"):
        compress(codec_run, [str(tmp_path / "images")], str(tmp_path / f"{name}.aelab"))
    assert (tmp_path / "a.aelab").read_bytes() == (tmp_path / "b.aelab").read_bytes()


def test_a_coarser_step_takes_fewer_bytes(dense_run, tmp_path):
    write_idx(tmp_path / "images", some_images(100)[..., 0])
    inputs, output = [str(tmp_path / "images")], str(tmp_path / "x.aelab")
    sizes = [
        compress(
            dense_run, inputs, output, quantiser_step=step, overwrite=True
        ).file_bytes
        for step in (0.01, 0.1, 1.0)
    ]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3


def test_a_file_takes_no_more_bytes_than_the_prior_predicts(tmp_path, codec_training):
    """The metric `code_bytes` is honest: tables take a little less, not more."""
    run_dir, metrics = codec_training
    config = RunDirectory(run_dir).read_config()
    images = load_part(config, "test").read(np.arange(EVAL_IMAGES))
    write_idx(tmp_path / "images", images[..., 0])
    done = compress(run_dir, [str(tmp_path / "images")], str(tmp_path / "x.aelab"))
    bytes_per_image = done.ideal_bytes / done.images
    assert 0.6 * metrics["code_bytes"] < bytes_per_image < 1.02 * metrics["code_bytes"]


def test_peak_memory_does_not_grow_with_the_number_of_images(
    tmp_path, dense_run, monkeypatch
):
    """Images are read, coded and written one block at a time."""
    monkeypatch.setattr(BLOCK_IMAGES, 512)
    peaks = []
    for count in (2_000, 20_000):
        write_idx(tmp_path / "images", some_images(count)[..., 0])
        tracemalloc.start()
        round_trip(dense_run, [tmp_path / "images"], tmp_path / str(count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


# Damaged files.


def parse(content):
    """The header of a file, and its blocks."""
    layout = read_header(content, "x")
    return layout.header, list(find_blocks(content, layout))


def refusal(run_dir, content, folder):
    """The message that refuses to decompress some content."""
    (folder / "x.aelab").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        decompress(run_dir, str(folder / "x.aelab"), str(folder / "out"))
    assert str(folder / "x.aelab") in str(caught.value)
    return str(caught.value)


def test_a_damaged_file_is_refused_and_nothing_is_written(
    tmp_path, codec_run, small_file
):
    assert "--salvage" in refusal(codec_run, small_file[0][:-1], tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lost", [(0,), (1,), (2,), (0, 2)])
def test_salvage_writes_the_intact_blocks(tmp_path, codec_run, small_file, lost):
    content, images = small_file
    damaged = bytearray(content)
    _header, blocks = parse(content)
    for number in lost:
        damaged[blocks[number].start] ^= 1
    (tmp_path / "x.aelab").write_bytes(damaged)
    done = decompress(codec_run, str(tmp_path / "x.aelab"), str(tmp_path), salvage=True)
    expected = images.copy()
    for number in lost:
        expected[2 * number : 2 * number + 2] = 0
        missing = f"the images from {2 * number} to {2 * number + 1} are missing"
        assert missing in done.damage
    assert done.images == 6 - 2 * len(lost)
    np.testing.assert_array_equal(read_idx(done.files[0], 3), expected)


def test_a_file_without_an_intact_block_is_refused(tmp_path, codec_run, small_file):
    """It does not become a file of black images, whatever number the header gives."""
    header, _ = parse(small_file[0])
    many = header._replace(members=[Member(IDX, 2**31, "many")])
    for start in map(pack_header, (header, many)):
        content = start + pack_copy(start)
        (tmp_path / "x.aelab").write_bytes(content)
        with pytest.raises(UsageError, match="no part of it is intact"):
            decompress(codec_run, str(tmp_path / "x.aelab"), str(tmp_path), True)
    assert os.listdir(tmp_path) == ["x.aelab"]


def test_a_header_that_claims_too_many_images_is_refused(
    tmp_path, codec_run, small_file
):
    content = with_header(small_file[0], members=[Member(IDX, 2**31, "many")])
    (tmp_path / "x.aelab").write_bytes(content)
    with pytest.raises(UsageError, match="too short for 2,147,483,648 images"):
        decompress(codec_run, str(tmp_path / "x.aelab"), str(tmp_path), salvage=True)
    assert os.listdir(tmp_path) == ["x.aelab"]


def test_lost_pictures_are_not_written(tmp_path, codec_run, monkeypatch):
    monkeypatch.setattr(BLOCK_IMAGES, 1)
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for path, image in zip(paths, some_images(3), strict=True):
        Image.fromarray(image[..., 0]).save(path)
    compress(codec_run, list(map(str, paths)), str(tmp_path / "x.aelab"))
    content = bytearray((tmp_path / "x.aelab").read_bytes())
    _, blocks = parse(bytes(content))
    content[blocks[1].start] ^= 1
    (tmp_path / "x.aelab").write_bytes(content)
    out = str(tmp_path / "out")
    done = decompress(codec_run, str(tmp_path / "x.aelab"), out, salvage=True)
    assert sorted(os.listdir(out)) == ["a.png", "c.png"]
    assert done.images == 2 and done.damage


def with_header(content, **changes):
    """A file with another header."""
    header, _ = parse(content)
    old, new = pack_header(header), pack_header(header._replace(**changes))
    return new + content[len(old) : -len(pack_copy(old))] + pack_copy(new)


def test_other_tables_are_refused(tmp_path, codec_run, small_file):
    crc = opened(codec_run).tables.crc ^ 1
    content = with_header(small_file[0], tables_crc=crc)
    assert "other tables" in refusal(codec_run, content, tmp_path)


def test_another_image_shape_is_refused(tmp_path, codec_run, small_file):
    content = with_header(small_file[0], image_shape=(14, 56, 1))
    message = refusal(codec_run, content, tmp_path)
    assert "14 x 56 x 1" in message and "28 x 28 x 1" in message


def test_symbols_that_differ_from_the_encoded_ones_are_an_error(
    tmp_path, codec_run, small_file
):
    content, _ = small_file
    header, blocks = parse(content)
    first = blocks[0]
    payload = content[first.start : first.end]
    block = pack_block(0, 2, first.symbols_crc ^ 1, payload)
    changed = pack_header(header) + block + content[first.end :]
    assert "symbols differ" in refusal(codec_run, changed, tmp_path)
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "", "x\0y", ".tmp-x", "x" * 256])
def test_a_name_outside_the_folder_is_refused(tmp_path, codec_run, small_file, name):
    content = with_header(small_file[0], members=[Member(IDX, 6, name)])
    assert "has a file by the name" in refusal(codec_run, content, tmp_path)
    assert not (tmp_path / "out").exists()


def test_originals_are_replaced_only_on_request(tmp_path, codec_run, small_file):
    """`x` became `x.aelab`; its folder is given as the one to write to."""
    content, images = small_file[0], some_images(6)[..., 0]
    (tmp_path / "x.aelab").write_bytes(
        with_header(content, members=[Member(IDX, 6, "x")])
    )
    write_idx(tmp_path / "x", images)
    before = (tmp_path / "x").read_bytes()
    arguments = codec_run, str(tmp_path / "x.aelab"), str(tmp_path)
    with pytest.raises(UsageError, match=r"x exists already.*--overwrite"):
        decompress(*arguments)
    assert (tmp_path / "x").read_bytes() == before
    decompress(*arguments, overwrite=True)
    assert (tmp_path / "x").read_bytes() != before


def test_two_members_of_one_name_are_refused(tmp_path, codec_run, small_file):
    content = with_header(small_file[0], members=[Member(IDX, 3, "x")] * 2)
    assert "two files by one name" in refusal(codec_run, content, tmp_path)


# Bad input.


def test_a_damaged_input_leaves_no_output(tmp_path, dense_run):
    write_idx(tmp_path / "good", some_images(3)[..., 0])
    write_idx(tmp_path / "cut.gz", some_images(3)[..., 0])
    content = (tmp_path / "cut.gz").read_bytes()
    (tmp_path / "cut.gz").write_bytes(content[:-100])
    inputs = [str(tmp_path / name) for name in ("good", "cut.gz")]
    with pytest.raises(UsageError, match=r"cut\.gz"):
        compress(dense_run, inputs, str(tmp_path / "x.aelab"))
    assert sorted(os.listdir(tmp_path)) == ["cut.gz", "good"]


def test_bad_outputs_are_refused(tmp_path):
    write_idx(tmp_path / "x.aelab", some_images(1)[..., 0])
    for output, words in {
        "x.bin": ".aelab",
        "no/x.aelab": "does not exist",
        "x.aelab": "would replace the input",
    }.items():
        with pytest.raises(UsageError, match=words):
            compress("no run", [str(tmp_path / "x.aelab")], str(tmp_path / output))


def test_a_file_is_not_overwritten_by_its_content(tmp_path, codec_run):
    write_idx(tmp_path / "x.aelab.gz", some_images(1)[..., 0])
    compress(codec_run, [str(tmp_path / "x.aelab.gz")], str(tmp_path / "x.aelab"))
    with pytest.raises(UsageError, match="would replace the input"):
        decompress(codec_run, str(tmp_path / "x.aelab"), str(tmp_path))


def test_a_folder_with_the_name_of_an_output_is_refused_before_any_work(
    tmp_path, codec_run
):
    for name in ("a", "b"):
        write_idx(tmp_path / name, some_images(1)[..., 0])
    file = str(tmp_path / "x.aelab")
    compress(codec_run, [str(tmp_path / name) for name in ("a", "b")], file)
    (tmp_path / "new" / "b").mkdir(parents=True)
    with pytest.raises(UsageError, match="new/b is a folder"):
        decompress(codec_run, file, str(tmp_path / "new"), overwrite=True)
    assert not (tmp_path / "new" / "a").exists()


def test_the_run_is_not_overwritten_by_the_content_of_a_file(tmp_path, codec_run):
    write_idx(tmp_path / "config.json", some_images(1)[..., 0])
    file = str(tmp_path / "x.aelab")
    compress(codec_run, [str(tmp_path / "config.json")], file)
    before = RunDirectory(codec_run).read_config()
    with pytest.raises(UsageError, match="would replace the input"):
        decompress(codec_run, file, codec_run, overwrite=True)
    assert RunDirectory(codec_run).read_config() == before


# The scripts.


def test_the_scripts_compress_and_another_process_decodes_the_same(tmp_path, codec_run):
    """In a process of its own, decompressing on one CPU only."""
    images, file = some_images(300), str(tmp_path / "x.aelab")
    write_idx(tmp_path / "some-idx3-ubyte.gz", images[..., 0])
    run = f"--run_dir={codec_run}"
    inputs = [str(tmp_path / "some-idx3-ubyte.gz")]
    done = run_script("compress", run, *inputs, f"--output={file}")
    assert (done.returncode, done.stderr) == (0, "")
    size = os.path.getsize(file)
    assert f"300 images, {size:,} bytes" in done.stdout
    assert f"{size / 300:.2f} bytes per image" in done.stdout
    compress(codec_run, inputs, str(tmp_path / "here.aelab"))
    assert (tmp_path / "here.aelab").read_bytes() == (tmp_path / "x.aelab").read_bytes()

    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})  # which a new process inherits
    try:
        done = run_script("decompress", run, file, f"--output={tmp_path / 'out'}")
    finally:
        os.sched_setaffinity(0, cpus)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(tmp_path / "out") == ["some-idx3-ubyte"]
    there = read_idx(str(tmp_path / "out" / "some-idx3-ubyte"), 3)
    here = decoded(codec_run, images)[..., 0].astype(int)
    assert np.abs(there - here).max() <= 1


@pytest.fixture
def script_here(monkeypatch, capsys):
    """`script_here(name, ...)`: a script's exit code and messages, in this process."""
    monkeypatch.setattr("aelab.system.startup.start_tensorflow", lambda: None)
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}

    def script(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        capsys.readouterr()
        code = exit_code(importlib.import_module(name).main)
        return code, capsys.readouterr().err

    yield script
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_the_script_names_a_damaged_file(tmp_path, codec_run, small_file, script_here):
    file, out = tmp_path / "x.aelab", tmp_path / "out"
    file.write_bytes(b"?" + small_file[0][1:])
    arguments = [f"--run_dir={codec_run}", str(file), f"--output={out}"]
    code, message = script_here("decompress", *arguments)
    assert code == 2 and str(file) in message
    assert not out.exists()
    code, message = script_here("decompress", *arguments, "--salvage")
    assert code == 1 and "is damaged" in message
    assert os.listdir(out) == ["six"]


def test_the_script_names_a_model_that_it_cannot_use(tmp_path, script_here):
    run_dir = untrained_run(tmp_path / "run", model="conv")
    write_idx(tmp_path / "images", some_images(1)[..., 0])
    arguments = [str(tmp_path / "images"), f"--output={tmp_path / 'x.aelab'}"]
    code, message = script_here("compress", f"--run_dir={run_dir}", *arguments)
    assert code == 2 and f"--run_dir={run_dir}" in message and "--model=conv" in message


def test_a_run_on_16_bit_pictures_compresses_8_bits(tmp_path):
    """Tables are fitted to its training pictures, as 8 bits."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(12):
        deep = generator.integers(0, 65536, (16, 16)).astype(np.uint16)
        Image.fromarray(deep).save(folder / f"{number}.png")
    config = Config(
        dataset="images",
        data_dir=str(folder),
        image_size=16,
        image_channels=1,
        model="dense",
        batch_size=4,
        train_steps=3,
    )
    run_dir = str(tmp_path / "run")
    train_and_evaluate(config, run_dir)
    Image.new("L", (16, 16), 77).save(tmp_path / "a.png")
    file, output = str(tmp_path / "a.aelab"), str(tmp_path / "out")
    compress(run_dir, [str(tmp_path / "a.png")], file)
    assert len(decompress(run_dir, file, output).files) == 1
