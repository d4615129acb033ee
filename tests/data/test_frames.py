import io

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from aelab.data.frames import check_single, frames
from aelab.data.image_files import opened, quiet_pillow

COLOR = np.random.default_rng(0).integers(0, 256, (23, 31, 3), np.uint8)
VIEWS = 0x020002  # of a scene, for two eyes
PREVIEW = 0x010002
UNDEFINED = 0  # what phones call the gain map of a picture


def save(path, **options):
    Image.fromarray(COLOR).save(path, **options)
    return str(path)


def save_views(path, kind, count=2):
    """A JPEG file with several pictures of a kind."""
    pictures = [Image.fromarray(COLOR)] * count
    with io.BytesIO() as file:
        pictures[0].save(file, "MPO", save_all=True, append_images=pictures[1:])
        content = bytearray(file.getvalue())
    # Of the first kind, the last entry of this value before the padding.
    start = content.rindex(b"\0\0\3\0", 0, content.index(b" " * 8))
    for number in range(count):
        entry = start + 16 * number
        content[entry : entry + 4] = kind.to_bytes(4, "little")
    path.write_bytes(content)
    return str(path)


def test_the_views_of_a_jpeg_file_are_pictures_of_their_own(tmp_path):
    path = save_views(tmp_path / "a.jpg", VIEWS, count=3)
    with opened(path) as picture:
        assert frames(picture) == 3
        with pytest.raises(ValueError, match="it holds 3 pictures, and only one is"):
            check_single(picture)


@pytest.mark.parametrize("kind", [PREVIEW, UNDEFINED])
def test_previews_in_a_jpeg_file_do_not_count(tmp_path, kind):
    with opened(save_views(tmp_path / "a.jpg", kind)) as picture:
        assert frames(picture) == 1


def test_a_damaged_index_of_a_jpeg_file_is_ignored(tmp_path):
    path = tmp_path / "a.jpg"
    save_views(path, VIEWS)
    content = path.read_bytes()
    place = content.index(b"MPF\0") + 4
    path.write_bytes(content[:place] + b"\xff" * 40 + content[place + 40 :])
    with quiet_pillow(), opened(str(path)) as picture:
        assert frames(picture) == 1


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_the_frames_of_an_animation_are_counted(tmp_path, suffix):
    others = [Image.fromarray(COLOR // n) for n in (2, 3)]
    path = save(tmp_path / f"a.{suffix}", save_all=True, append_images=others)
    with opened(path) as picture:
        assert frames(picture) == 3
        with pytest.raises(ValueError, match="it holds 3 pictures"):
            check_single(picture)


@pytest.mark.parametrize("suffix", ["bmp", "gif", "jpg", "png", "tif", "webp"])
def test_a_picture_is_one_frame(tmp_path, suffix):
    with opened(save(tmp_path / f"a.{suffix}")) as picture:
        assert frames(picture) == 1
        check_single(picture)


def refused_pages(path):
    with (
        pytest.raises(ValueError, match=r"it holds [0-9]+ pages") as caught,
        opened(path),
    ):
        pass
    return str(caught.value)


def test_a_tiff_file_with_several_pages_is_refused(tmp_path):
    others = [Image.fromarray(COLOR)] * 2
    path = save(tmp_path / "a.tif", save_all=True, append_images=others)
    assert "3 pages" in refused_pages(path)


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (270, "ImageJ=1.53t\nimages=3\nslices=3\nloop=false\n"),
        (270, '{"shape": [3, 23, 31, 3], "truncated": true}'),
        (32997, 3),
    ],
)
def test_a_stack_in_one_directory_of_a_tiff_file_is_refused(tmp_path, tag, value):
    path = save(tmp_path / "a.tif", tiffinfo={tag: value})
    assert "3 pages" in refused_pages(path)


def test_a_description_or_a_preview_of_a_tiff_file_is_no_page(tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[254] = 1
    path = save(tmp_path / "a.tif", tiffinfo={270: "images=3"})
    with TiffImagePlugin.AppendingTiffWriter(path) as file:
        Image.fromarray(COLOR[::2, ::2]).save(file, "TIFF", tiffinfo=tags)
    with Image.open(path) as picture:
        assert picture.n_frames == 2
    with opened(path) as picture:
        np.testing.assert_array_equal(np.asarray(picture), COLOR)
        assert frames(picture) == 1


@pytest.mark.parametrize(
    "text",
    [
        '{"shape": [23, 31, 3]}',
        '{"shape": [23, 31, 3], "truncated": true}',
        '{"shape": [ , ], "truncated": true}',
    ],
)
def test_the_shape_of_one_picture_in_a_tiff_file_is_no_stack(tmp_path, text):
    with opened(save(tmp_path / "a.tif", tiffinfo={270: text})) as picture:
        np.testing.assert_array_equal(np.asarray(picture), COLOR)
