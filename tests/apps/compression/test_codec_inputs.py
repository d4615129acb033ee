import errno

import numpy as np
import pytest
from conftest import write_idx
from PIL import Image

from aelab.apps.compression import inputs
from aelab.apps.compression.inputs import list_members, read_blocks
from aelab.apps.denoising.png import write_png
from aelab.errors import UsageError

SHAPE = (28, 28, 1)


def refusal(*paths, shape=SHAPE):
    """The message that refuses some files."""
    names = [str(path) for path in paths]
    with pytest.raises(UsageError) as caught:
        list(read_blocks(names, list_members(names, shape), shape, 100))
    return str(caught.value)


def check_refusals(folder, words_of):
    """Checks the words in the message that refuses each file of a folder."""
    for name, words in words_of.items():
        message = refusal(folder / name)
        assert str(folder / name) in message and words in message


def test_a_failing_disk_is_not_the_file_s_fault(tmp_path, monkeypatch):
    """It is exit code 1, and a bad file is 2."""

    def fail(*arguments, **options):
        raise OSError(errno.EIO, "the disk fails")

    Image.new("L", (28, 28)).save(tmp_path / "a.png")
    monkeypatch.setattr(inputs, "opened", fail)
    with pytest.raises(OSError, match="the disk fails"):
        list_members([str(tmp_path / "a.png")], SHAPE)


def test_bad_pictures_are_named(tmp_path):
    pixels = np.zeros((28, 28), np.uint8)
    Image.fromarray(pixels[:14]).save(tmp_path / "small.png")
    Image.fromarray(np.zeros((28, 28, 3), np.uint8)).save(tmp_path / "color.png")
    Image.fromarray(np.zeros((28, 28, 2), np.uint8)).save(tmp_path / "alpha.png")
    Image.fromarray(np.zeros((28, 28), np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(pixels).save(tmp_path / "cut.png")
    cut = (tmp_path / "cut.png").read_bytes()[:-30]
    (tmp_path / "cut.png").write_bytes(cut)
    frames = [Image.fromarray(pixels + level) for level in np.arange(3, dtype=np.uint8)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    words_of = {
        "small.png": "28 x 14 pixels",
        "color.png": "RGB",
        "alpha.png": "LA",
        "deep.png": "I;16",
        "text.png": "picture",
        "cut.png": "cut.png: ",
        "none.png": "No such file",
        "x.gif": "holds 3 pictures",
    }
    check_refusals(tmp_path, words_of)


def test_16_bits_of_color_are_refused(tmp_path):
    """Pillow reads them as RGB, without the lower 8 bits."""
    write_png(str(tmp_path / "a.png"), [np.zeros((28, 28, 3), np.uint16)])
    message = refusal(tmp_path / "a.png", shape=(28, 28, 3))
    assert "RGB of 16 bits" in message and "takes 8 bits" in message


def test_bad_idx_files_are_named(tmp_path):
    write_idx(tmp_path / "small", np.zeros((3, 14, 28), np.uint8))
    write_idx(tmp_path / "labels", np.zeros(3, np.uint8))
    write_idx(tmp_path / "cut", np.zeros((3, 28, 28), np.uint8))
    (tmp_path / "cut").write_bytes((tmp_path / "cut").read_bytes()[:-1])
    words_of = {
        "small": "14 x 28 x 1",
        "labels": "3-dimensional",
        "cut": "cut short",
        "": "directory",
    }
    check_refusals(tmp_path, words_of)


@pytest.mark.parametrize("count", [0, 3])
def test_bytes_behind_the_end_of_an_idx_file_are_ignored(tmp_path, capsys, count):
    path = tmp_path / "long.gz"  # not gzipped in spite of its name
    images = np.full((count, 28, 28), 7, np.uint8)
    write_idx(tmp_path / "long", images)
    path.write_bytes((tmp_path / "long").read_bytes() + b"x")
    members = list_members([str(path)], SHAPE)
    assert members[0].name == "long"
    blocks = list(read_blocks([str(path)], members, SHAPE, 2))
    assert sum(map(len, blocks)) == count
    assert "long.gz has more bytes than the " in capsys.readouterr().err


def test_names_that_could_not_be_written_are_refused(tmp_path):
    image = np.zeros((1, 28, 28), np.uint8)
    Image.fromarray(image[0]).save(tmp_path / ("y" * 253), "PNG")
    for name in (".gz", ".tmp-x"):
        write_idx(tmp_path / name, image)
    for name in (".gz", ".tmp-x", "y" * 253):
        assert "can't be written as " in refusal(tmp_path / name)


def test_two_files_of_one_name_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_idx(tmp_path / name / "images", np.zeros((1, 28, 28), np.uint8))
    paths = [tmp_path / "a" / "images", tmp_path / "b" / "images"]
    message = refusal(*paths)
    assert all(str(path) in message for path in paths)


def test_the_orientation_of_a_picture_is_applied(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    exif = Image.Exif()
    exif[274] = 3
    Image.fromarray(image[::-1, ::-1]).save(tmp_path / "turned.png", exif=exif)
    paths = [str(tmp_path / "turned.png")]
    (block,) = read_blocks(paths, list_members(paths, SHAPE), SHAPE, 100)
    np.testing.assert_array_equal(block, image.reshape(1, 28, 28, 1))


def test_damaged_metadata_does_not_stop_the_pixels(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    path = str(tmp_path / "a.png")
    options = {"exif": b"Exif\0\0" + b"\xff" * 70, "icc_profile": bytes(2**21)}
    Image.fromarray(image).save(path, **options)
    (block,) = read_blocks([path], list_members([path], SHAPE), SHAPE, 100)
    np.testing.assert_array_equal(block, image.reshape(1, 28, 28, 1))
