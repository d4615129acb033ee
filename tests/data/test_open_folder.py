import os
import struct

import numpy as np
import tensorflow as tf
from PIL import Image
from small_pictures import config_of, numbered, refusal

from aelab.data.find_pictures import picture_names
from aelab.data.sources import load_part


def test_all_bad_files_are_reported_at_once(own):
    names = picture_names(str(own), "train")
    (own / names[0]).write_text("not a picture")
    (own / names[1]).write_bytes(b"")
    Image.new("RGB", (7, 50)).save(own / names[2], format="PNG")
    message = refusal(config_of(own, max_bad_files=2))
    lines = message.splitlines()
    assert f"--data_dir={own}: 3 of the {len(names)} pictures for train" in lines[0]
    assert "more than --max_bad_files=2" in lines[0]
    assert lines[1].strip().startswith(f"{names[0]}: it is not a picture")
    assert lines[2].strip() == f"{names[1]}: it is empty"
    assert lines[3].strip().startswith(f"{names[2]}: it has 7 x 50 pixels")


def test_only_some_of_many_bad_files_are_listed(own):
    names = picture_names(str(own), "train")
    for name in names[:9]:
        (own / name).write_bytes(b"")
    lines = refusal(config_of(own)).splitlines()
    assert len(lines) == 7 and lines[-1].strip() == "and 4 more"


def test_bad_files_within_the_limit_are_skipped_and_reported(own, capsys):
    names = picture_names(str(own), "train")
    (own / names[3]).write_text("not a picture")
    source = load_part(config_of(own, max_bad_files=1), "train")
    assert len(source) == len(names) - 1
    errors = capsys.readouterr().err
    assert errors.startswith("warning: ") and errors.count("\n") == 1
    assert names[3] in errors and "not a picture" in errors
    (own / names[3]).unlink()
    assert load_part(config_of(own), "train").fingerprint == source.fingerprint


def test_animations_are_reported_once(own, capsys):
    names = picture_names(str(own), "train")[:2]
    frames = [Image.fromarray(numbered(n, 20, 20)) for n in range(3)]
    for name in names:
        options = {"save_all": True, "append_images": frames[1:]}
        frames[0].save(own / name, "GIF", **options)
    source = load_part(config_of(own), "train")
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and min(names) in errors
    assert "2 of the " in errors and "only the first frame" in errors
    assert source.read(np.arange(2)).shape[0] == 2


def write_12_bits(own):
    """Replaces all pictures by 16-bit gray ones with values of 12 bits."""
    values = np.random.default_rng(2).integers(0, 4096, (40, 20, 20), np.uint16)
    for number, deep in enumerate(values):
        Image.fromarray(deep).save(own / f"{number}.jpg", "PNG")


def test_pictures_of_12_bits_are_scaled_by_the_white_level(own, capsys):
    write_12_bits(own)
    dark = load_part(config_of(own, image_channels=1), "train")
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "--white_level" in errors
    config = config_of(own, image_channels=1, white_level=4095)
    bright = load_part(config, "train")
    assert capsys.readouterr().err == ""
    assert dark.read(np.arange(9)).max() <= 4095
    assert bright.read(np.arange(9)).max() > 0.99 * 65535
    for upper in (0, 4095):
        eight = load_part(
            config_of(own, image_channels=1, white_level=upper, image_bits=8), "train"
        )
        found = eight.read(np.arange(9))
        assert found.dtype == np.uint8
        assert found.max() == 15 if upper == 0 else found.max() >= 254


def test_the_white_level_of_16_bits_of_color(own, capsys):
    """With and without alpha, whose value of 65535 is not the color's."""
    for number in range(40):
        pixels = np.full((20, 20, 3 + number % 2), 200, np.uint16)
        pixels[..., 3:] = 65535
        (own / f"{number}.jpg").write_bytes(tf.io.encode_png(pixels).numpy())
    dark = load_part(config_of(own), "train")
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "--white_level" in errors
    bright = load_part(config_of(own, white_level=255), "train")
    assert capsys.readouterr().err == ""
    assert set(np.unique(dark.read(np.arange(9)))) == {200}
    assert set(np.unique(bright.read(np.arange(9)))) == {200 * 257}
    few = load_part(config_of(own, white_level=255, image_bits=8), "train")
    assert set(np.unique(few.read(np.arange(9)))) == {200}


def test_a_bmp_file_of_5_and_6_bits_has_no_white_level(own, capsys):
    """Pillow's name for them is BGR;16."""
    masks = (0xF800, 0x7E0, 0x1F)
    head = struct.pack("<2sIII", b"BM", 866, 0, 66)
    head += struct.pack("<IiiHHIIiiII3I", 40, 20, 20, 1, 16, 3, 800, 0, 0, 0, 0, *masks)
    for path in own.iterdir():
        path.write_bytes(head + bytes(800))
    for white_level in (0, 4095):
        load_part(config_of(own, white_level=white_level), "train")
        assert capsys.readouterr().err == ""


def test_a_folder_with_only_bad_files_is_refused(own):
    for path in own.iterdir():
        path.write_bytes(b"")
    message = refusal(config_of(own, max_bad_files=1000))
    assert "can't be used, so none is left" in message


def test_an_unprintable_name_is_escaped_in_the_message(own):
    (own / os.fsdecode(b"a\n\xff.jpg")).write_bytes(b"")
    message = refusal(config_of(own))
    assert r"a\n\udcff.jpg: it is empty" in message
