import hashlib
import os

import numpy as np
import pytest
from PIL import Image

from aelab.data import image_files as picture_files
from aelab.data.image_files import (
    SUFFIXES,
    failure_reason,
    opened,
    picture_names,
    quiet_pillow,
    read_square,
)
from aelab.errors import UsageError

HEIGHT, WIDTH, SIZE = 23, 31, 8
LAST = 2**32 - 1  # the largest number of a place
RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
GRAY = RANDOM.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
ALPHA = RANDOM.integers(0, 256, (HEIGHT, WIDTH), np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(path, **options)
    return str(path)


def corner(path, channels=3):
    """The square at the bottom on the right."""
    return read_square(path, SIZE, channels, LAST, LAST)


def failure(path, size=SIZE):
    """Why a picture can't be read."""
    with pytest.raises(Exception) as caught:
        read_square(str(path), size, 3, 0, 0)
    return failure_reason(caught.value)


def luma(colour):
    return colour @ np.array([0.299, 0.587, 0.114])


def on_white(colour, alpha):
    share = alpha[..., None] / 255
    return colour * share + 255 * (1 - share)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".PNG"])
def test_lossless_colour_comes_back(tmp_path, suffix):
    options = {"lossless": True} if suffix == ".webp" else {}
    path = save(tmp_path / f"a{suffix}", COLOUR, **options)
    expected = COLOUR[-SIZE:, -SIZE:]
    np.testing.assert_array_equal(corner(path), expected, strict=True)
    gray = corner(path, channels=1)
    assert gray.shape == (SIZE, SIZE, 1) and gray.dtype == np.uint8
    assert np.abs(gray[..., 0] - luma(expected)).max() <= 0.51


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif"])
def test_gray_comes_back_in_one_channel_or_in_three(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", GRAY)
    expected = GRAY[-SIZE:, -SIZE:, None]
    np.testing.assert_array_equal(corner(path, channels=1), expected, strict=True)
    np.testing.assert_array_equal(corner(path), np.tile(expected, 3), strict=True)


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.JPG", "named.png"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_is_what_pillow_decodes(tmp_path, name, mode):
    """By its content, whatever it is called."""
    path = save(tmp_path / name, Image.fromarray(COLOUR).convert(mode), format="JPEG")
    whole = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(corner(path), whole[-SIZE:, -SIZE:], strict=True)


def test_cmyk(tmp_path):
    cmyk = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
    path = save(
        tmp_path / "a.jpg", Image.frombytes("CMYK", (WIDTH, HEIGHT), cmyk.tobytes())
    )
    ink = np.asarray(Image.open(path))[-SIZE:, -SIZE:] / 255
    expected = 255 * (1 - ink[..., :3]) * (1 - ink[..., 3:])
    assert np.abs(corner(path) - expected).max() <= 1


def test_palettes(tmp_path):
    picture = Image.fromarray(COLOUR).quantize(16)
    expected = np.asarray(picture.convert("RGB"))[-SIZE:, -SIZE:]
    for suffix in (".png", ".gif", ".bmp"):
        path = save(tmp_path / f"a{suffix}", picture)
        np.testing.assert_array_equal(corner(path), expected)


def test_black_and_white(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(GRAY > 127))
    expected = 255 * (GRAY > 127)[-SIZE:, -SIZE:, None]
    np.testing.assert_array_equal(corner(path, channels=1), expected)


def test_of_16_bits_the_upper_ones(tmp_path):
    deep = RANDOM.integers(0, 2**16, (HEIGHT, WIDTH), np.uint16)
    path = save(tmp_path / "a.png", deep)
    expected = (deep >> 8)[-SIZE:, -SIZE:, None]
    np.testing.assert_array_equal(corner(path, channels=1), expected)
    np.testing.assert_array_equal(corner(path), np.tile(expected, 3))


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_what_is_transparent_lies_on_white(tmp_path, suffix):
    pixels = np.dstack([COLOUR, ALPHA])
    options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    path = save(tmp_path / f"a{suffix}", pixels, **options)
    expected = on_white(COLOUR, ALPHA)[-SIZE:, -SIZE:]
    assert np.abs(corner(path) - expected).max() <= 1
    gray = corner(path, channels=1)[..., 0]
    assert np.abs(gray - luma(expected)).max() <= 2


def test_gray_with_transparency(tmp_path):
    path = save(tmp_path / "a.png", np.dstack([GRAY, ALPHA]))
    expected = on_white(GRAY[..., None], ALPHA)[-SIZE:, -SIZE:]
    assert np.abs(corner(path, channels=1) - expected).max() <= 1


def test_a_transparent_gray_of_16_bits(tmp_path):
    deep = RANDOM.integers(0, 2**16, (HEIGHT, WIDTH), np.uint16)
    deep[::2] = 777
    path = save(tmp_path / "a.png", deep, transparency=777)
    expected = np.where(deep == 777, 255, deep >> 8)[-SIZE:, -SIZE:, None]
    assert (expected == 255).sum() > SIZE
    np.testing.assert_array_equal(corner(path, channels=1), expected)


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_a_transparent_colour_of_a_palette(tmp_path, suffix):
    indices = RANDOM.integers(0, 4, (HEIGHT, WIDTH), np.uint8)
    colours = RANDOM.integers(0, 256, (4, 3), np.uint8)
    picture = Image.fromarray(indices)
    picture.putpalette(colours.tobytes())
    path = save(tmp_path / f"a{suffix}", picture, transparency=2)
    colours[2] = 255
    np.testing.assert_array_equal(corner(path), colours[indices][-SIZE:, -SIZE:])


def test_a_palette_with_an_alpha_for_each_colour(tmp_path):
    indices = RANDOM.integers(0, 4, (HEIGHT, WIDTH), np.uint8)
    colours = RANDOM.integers(0, 256, (4, 3), np.uint8)
    alphas = np.array([255, 0, 100, 200], np.uint8)
    picture = Image.fromarray(indices)
    picture.putpalette(colours.tobytes())
    path = save(tmp_path / "a.png", picture, transparency=alphas.tobytes())
    expected = on_white(colours[indices], alphas[indices])[-SIZE:, -SIZE:]
    assert np.abs(corner(path) - expected).max() <= 1


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_the_first_frame_of_an_animation(tmp_path, suffix):
    frames = [Image.fromarray(np.full_like(GRAY, v)) for v in (10, 200, 90)]
    options = {"lossless": True} if suffix == ".webp" else {}
    path = save(
        *(tmp_path / f"a{suffix}", frames[0]),
        save_all=True,
        append_images=frames[1:],
        **options,
    )
    with Image.open(path) as picture:
        assert picture.n_frames == 3
    np.testing.assert_array_equal(corner(path), np.full([SIZE, SIZE, 3], 10))


TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_exif_orientation_is_applied(tmp_path, suffix, orientation):
    """EXIF 2.3, 4.6.4 A: where the file's first row and column are on the screen."""
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"lossless": True} if suffix == ".webp" else {}
    path = save(tmp_path / f"a{suffix}", COLOUR, exif=exif, **options)
    stored = np.asarray(Image.open(path).convert("RGB"))[-SIZE:, -SIZE:]
    np.testing.assert_array_equal(corner(path), TURNS[orientation](stored))


def test_a_picture_of_just_the_size_comes_back_whole(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    square = COLOUR[:SIZE, :SIZE]
    path = save(tmp_path / "a.png", square, exif=exif)
    for place in (0, 2**31, LAST):
        found = read_square(path, SIZE, 3, place, place)
        np.testing.assert_array_equal(found, np.rot90(square, -1))


@pytest.mark.parametrize(
    ("down", "right", "top", "left"),
    [
        (0, 0, 0, 0),
        (LAST, 0, HEIGHT - SIZE, 0),
        (0, LAST, 0, WIDTH - SIZE),
        (2**31, 2**31, (HEIGHT - SIZE + 1) // 2, (WIDTH - SIZE + 1) // 2),
    ],
)
def test_where_a_square_is_cut_out(tmp_path, down, right, top, left):
    path = save(tmp_path / "a.png", COLOUR)
    found = read_square(path, SIZE, 3, down, right)
    expected = COLOUR[top : top + SIZE, left : left + SIZE]
    np.testing.assert_array_equal(found, expected)


def test_all_places_take_equal_parts_of_the_numbers(tmp_path):
    rows = np.arange(SIZE + 4, dtype=np.uint8)  # so 5 places
    path = save(tmp_path / "a.png", np.tile(rows[:, None], SIZE))
    numbers = np.linspace(0, LAST, 501).astype(np.int64)
    found = [int(read_square(path, SIZE, 1, int(n), 0)[0, 0, 0]) for n in numbers]
    np.testing.assert_array_equal(found, numbers * 5 // 2**32)
    assert set(found) == set(range(5))


def test_what_is_no_picture_is_named_so(tmp_path):
    text = tmp_path / "text.png"
    text.write_text("name,label\n" * 9)
    assert failure(text) == "it is no picture in the format BMP, GIF, JPEG, PNG, WEBP"
    tiff = save(tmp_path / "tiff.png", COLOUR, format="TIFF")
    assert failure(tiff) == failure(text)
    (tmp_path / "empty.png").touch()
    assert failure(tmp_path / "empty.png") == "it is empty"
    (tmp_path / "folder.png").mkdir()
    assert failure(tmp_path / "folder.png") == "it is no regular file"
    assert failure(tmp_path / "none.png") == "No such file or directory"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".gif"])
def test_a_file_that_is_cut_short(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", COLOUR)
    size = os.path.getsize(path)
    os.truncate(path, size * 2 // 3)
    reason = failure(path)
    assert reason and reason.isprintable()


def test_a_picture_that_is_too_small_is_told_with_its_size(tmp_path):
    path = save(tmp_path / "a.png", COLOUR)
    for size in (HEIGHT + 1, WIDTH + 1):
        reason = failure(path, size)
        assert f"{WIDTH} x {HEIGHT} pixels" in reason
        assert f"--image_size={size}" in reason
    assert read_square(path, HEIGHT, 3, 0, 0).shape == (HEIGHT, HEIGHT, 3)


def test_giant_pictures_are_errors_and_other_warnings_are_not(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", COLOUR)
    monkeypatch.setattr(picture_files.Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH - 1)
    with (
        quiet_pillow(),
        pytest.raises(Image.DecompressionBombWarning, match="exceeds limit"),
        opened(path, SIZE),
    ):
        pass
    monkeypatch.undo()
    with quiet_pillow(), opened(path, SIZE) as picture:
        picture.info["transparency"] = (1, 2, 3)
        picture.convert("RGBA").convert("P")


def make(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


NAMES = [f"{letter}/{number}.jpg" for letter in "abc" for number in range(500)]


def test_about_a_tenth_is_to_evaluate_on_by_a_hash_of_the_name(tmp_path):
    make(tmp_path, NAMES)
    hashes = {n: hashlib.sha256(n.encode()).hexdigest()[:12] for n in NAMES}
    ordered = sorted(NAMES, key=hashes.get)
    held_out, train = (picture_names(str(tmp_path), s) for s in ("eval", "train"))
    assert held_out + train == ordered
    assert held_out == [n for n in ordered if int(hashes[n], 16) < 2**48 / 10]
    assert 100 < len(held_out) < 200
    for part in (held_out, train):  # the first of each are from everywhere
        assert {name[0] for name in part[:20]} == set("abc")


def test_a_picture_keeps_its_side_when_others_come_and_the_folder_moves(tmp_path):
    make(tmp_path / "one", NAMES)
    make(tmp_path / "two", [*NAMES[::2], *(f"new/{n}.png" for n in range(300))])
    one, two = (
        {split: picture_names(str(tmp_path / f), split) for split in ("train", "eval")}
        for f in ("one", "two")
    )
    for split in ("train", "eval"):
        kept = set(NAMES[::2])
        assert set(one[split]) & kept == set(two[split]) & kept


@pytest.mark.parametrize("count", [2, 3, 5])
def test_both_parts_have_a_picture_in_the_smallest_folder(tmp_path, count):
    for number in range(30):
        folder = tmp_path / str(number)
        make(folder, [f"{number}-{n}.png" for n in range(count)])
        held_out, train = (picture_names(str(folder), s) for s in ("eval", "train"))
        assert held_out and train and len(held_out) + len(train) == count


def test_sub_folders_links_and_names_of_all_kinds(tmp_path):
    folder = tmp_path / "pictures"
    names = [
        "a.JPG",
        "b b/Ä ß.png",
        "b b/c/日本.webp",
        "x.y/z.tar.gif",
        "new\nline.bmp",
    ]
    names.append(os.fsdecode(b"not-utf8-\xff.jpeg"))
    make(folder, names)
    make(folder, ["notes.txt", "labels.csv", "png", ".hidden.png", ".cache/a.png"])
    make(folder, ["Thumbs.db", "raw.tiff", "._a.JPG"])
    make(tmp_path / "elsewhere", ["linked.png"])
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "b b" / "circle").symlink_to(folder)
    (folder / "file link.png").symlink_to(folder / "a.JPG")
    names += ["link/linked.png", "file link.png"]
    found = [
        n for split in ("eval", "train") for n in picture_names(str(folder), split)
    ]
    assert sorted(found) == sorted(names)


@pytest.mark.parametrize("names", [[], ["one.png"], ["a.txt", "b.tiff", "one.png"]])
def test_fewer_than_two_pictures_are_refused(tmp_path, names):
    make(tmp_path, names)
    with pytest.raises(UsageError) as caught:
        picture_names(str(tmp_path), "train")
    message = str(caught.value)
    assert message.startswith(f"--data_dir={tmp_path} must hold at least two pictures")
    assert all(suffix in message for suffix in SUFFIXES)
    assert message.endswith(f"it holds {len([n for n in names if 'png' in n])}")


def test_a_folder_that_is_none_is_named(tmp_path):
    make(tmp_path, ["file.png"])
    for path in (tmp_path / "none", tmp_path / "file.png"):
        with pytest.raises(UsageError, match=f"--data_dir={path} is not a folder"):
            picture_names(str(path), "train")


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    make(tmp_path, ["a.png", "b.png", "locked/c.png"])
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match=r"can't be read: .*denied: '.*locked'"):
        picture_names(str(tmp_path), "train")
