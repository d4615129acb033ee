import hashlib
import os

import pytest
from PIL import Image

from aelab.config import Config
from aelab.data.find_pictures import (
    SUFFIXES,
    find_pictures,
    last_names,
    picture_names,
)
from aelab.errors import UsageError


def make(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


NAMES = [f"{letter}/{number}.jpg" for letter in "abc" for number in range(500)]


def test_a_hash_of_the_name_selects_a_tenth_for_evaluation(tmp_path):
    make(tmp_path, NAMES)
    hashes = {n: hashlib.sha256(n.encode()).hexdigest()[:12] for n in NAMES}
    ordered = sorted(NAMES, key=hashes.get)
    held_out, train = (picture_names(str(tmp_path), s) for s in ("test", "train"))
    assert held_out + train == ordered
    assert held_out == [n for n in ordered if int(hashes[n], 16) < 2**48 / 10]
    assert 100 < len(held_out) < 200
    for part in (held_out, train):  # the first of each are a fair sample
        assert {name[0] for name in part[:20]} == set("abc")


def test_other_pictures_and_the_folder_do_not_change_the_split(tmp_path):
    make(tmp_path / "one", NAMES)
    make(tmp_path / "two", [*NAMES[::2], *(f"new/{n}.png" for n in range(300))])
    one, two = (
        {split: picture_names(str(tmp_path / f), split) for split in ("train", "test")}
        for f in ("one", "two")
    )
    for split in ("train", "test"):
        common = set(NAMES[::2])
        assert set(one[split]) & common == set(two[split]) & common


@pytest.mark.parametrize("count", [2, 3, 5])
def test_both_splits_of_a_small_folder_have_a_picture(tmp_path, count):
    for number in range(30):
        folder = tmp_path / str(number)
        make(folder, [f"{number}-{n}.png" for n in range(count)])
        held_out, train = (picture_names(str(folder), s) for s in ("test", "train"))
        assert held_out and train and len(held_out) + len(train) == count


def test_all_names_in_sub_folders_and_behind_links_are_found(tmp_path):
    folder = tmp_path / "pictures"
    names = [
        "a.JPG",
        "b b/Ä ß.png",
        "b b/c/日本.webp",
        "x.y/z.tar.gif",
        "new\nline.bmp",
        "scan.TIFF",
    ]
    names.append(os.fsdecode(b"not-utf8-\xff.jpeg"))
    make(folder, names)
    make(folder, ["notes.txt", "labels.csv", "png", ".hidden.png", ".cache/a.png"])
    make(folder, ["Thumbs.db", "raw.dng", "._a.JPG"])
    make(tmp_path / "elsewhere", ["linked.png"])
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "b b" / "circle").symlink_to(folder)
    (folder / "file link.png").symlink_to(folder / "a.JPG")
    names += ["link/linked.png", "file link.png"]
    found = [
        n for split in ("test", "train") for n in picture_names(str(folder), split)
    ]
    assert sorted(found) == sorted(names)


@pytest.mark.parametrize("names", [[], ["one.png"], ["a.txt", "b.dng", "one.png"]])
def test_fewer_than_two_pictures_are_refused(tmp_path, names):
    make(tmp_path, names)
    with pytest.raises(UsageError) as caught:
        picture_names(str(tmp_path), "train")
    message = str(caught.value)
    assert message.startswith(f"--data_dir={tmp_path} must hold at least two pictures")
    assert all(suffix in message for suffix in SUFFIXES)
    assert message.endswith(f"it holds {len([n for n in names if 'png' in n])}")


def test_a_missing_folder_is_reported(tmp_path):
    make(tmp_path, ["file.png"])
    for path in (tmp_path / "none", tmp_path / "file.png"):
        with pytest.raises(UsageError, match=f"--data_dir={path} is not a folder"):
            picture_names(str(path), "train")


def test_an_unreadable_folder_is_reported(tmp_path, monkeypatch):
    make(tmp_path, ["a.png", "b.png", "locked/c.png"])
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match=r"can't be read: .*denied: '.*locked'"):
        picture_names(str(tmp_path), "train")


PARTS = ("train", "test")


def parts_of(folder, split_by="folder"):
    """The names for training and for test."""
    return [picture_names(str(folder), part, split_by) for part in ("train", "test")]


def test_with_split_by_folder_no_sub_folder_is_in_both_parts(tmp_path):
    films = [f"film-{n}" for n in range(50)]
    names = [
        f"{film}/{scene}/{n}.png" for film in films for n in "123" for scene in "ab"
    ]
    make(tmp_path, [*names, "1.png", "2.png", "3.png"])
    parts = parts_of(tmp_path)
    assert sorted(parts[0] + parts[1]) == sorted([*names, "1.png", "2.png", "3.png"])
    train, held_out = ({os.path.dirname(n).split("/")[0] for n in p} for p in parts)
    assert train | held_out == {*films, ""} and not train & held_out
    lowest = {f for f in films if hashlib.sha256(f.encode()).digest()[0] < 25}
    assert lowest <= held_out and len(held_out) < 15
    for part in parts:
        assert part == sorted(part, key=lambda n: hashlib.sha256(n.encode()).digest())
    by_file = parts_of(tmp_path, "file")
    assert by_file == [picture_names(str(tmp_path), part) for part in ("train", "test")]
    assert set(by_file[1]) != set(parts[1])


def test_split_by_folder_needs_two_sub_folders(tmp_path):
    make(tmp_path, ["a/1.png", "a/b/2.png", "notes/readme.txt"])
    with pytest.raises(UsageError, match=f"all are in {tmp_path}/a; ") as caught:
        parts_of(tmp_path)
    assert "--split_by=folder" in str(caught.value)
    make(tmp_path, ["c/1.png"])
    assert sorted(map(len, parts_of(tmp_path))) == [1, 2]


@pytest.mark.parametrize("share", [0.25, 0.9])
def test_the_test_share_is_the_share_of_hashes(tmp_path, share):
    names = [f"{n}.png" for n in range(400)]
    make(tmp_path, names)
    found = {p: picture_names(str(tmp_path), p, "file", share) for p in PARTS}
    digests = {n: hashlib.sha256(n.encode()).digest()[:6] for n in names}
    lowest = {n for n in names if int.from_bytes(digests[n], "big") < share * 2**48}
    assert set(found["test"]) == lowest and set(found["train"]) == {*names} - lowest


def test_a_share_of_zero_has_no_test_part(tmp_path):
    make(tmp_path, ["1.png", "2.png", "3.png"])
    assert len(picture_names(str(tmp_path), "train", test_share=0)) == 3
    with pytest.raises(UsageError, match="no test part: --test_share=0"):
        picture_names(str(tmp_path), "test", test_share=0)
    with pytest.raises(UsageError, match="give --validation_examples"):
        Config(dataset="images", data_dir=str(tmp_path), test_share=0)


@pytest.mark.parametrize("count", [1, 3, 4, 7])
def test_the_last_names_are_whole_sub_folders(count):
    names = [f"{folder}/{n}.png" for n in "12" for folder in "abcd"] + ["5.png"]
    order = sorted(
        ["a", "b", "c", "d", ""], key=lambda n: hashlib.sha256(n.encode()).digest()
    )
    found = last_names(names, count, "folder")
    folders = {os.path.dirname(name) for name in found}
    assert folders == {*order[-len(folders) :]}
    assert found == {name for name in names if os.path.dirname(name) in folders}
    without_first = [n for n in found if os.path.dirname(n) != order[-len(folders)]]
    assert len(without_first) < count <= len(found)


def test_the_last_names_are_in_the_order_of_hashes():
    names = [f"{n}.png" for n in range(50)]
    order = sorted(names, key=lambda n: hashlib.sha256(n.encode()).digest())
    assert last_names(names, 7, "file") == {*order[-7:]}


def test_split_by_is_refused_with_other_data_sets():
    with pytest.raises(UsageError, match="only --dataset=images uses it"):
        Config(split_by="folder")


def test_runs_and_studies_are_skipped_in_one_line(tmp_path, capsys):
    make(tmp_path, ["a.png", "b/c.png", "b/config.json", "d/checkpoints/e.png"])
    make(tmp_path, ["b/run/config.json", "b/run/checkpoints/best/x.npz"])
    make(tmp_path, ["b/run/images/panel.png", "b/run/evaluation-worst.png"])
    make(tmp_path, ["study/study.json", "study/plot.png", "study/runs/x/panel.png"])
    train, held_out = parts_of(tmp_path, "file")
    assert sorted(train + held_out) == ["a.png", "b/c.png", "d/checkpoints/e.png"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"warning: --data_dir={tmp_path}: folders of runs and studies are skipped: 2, "
        f"for example {tmp_path}/b/run"
    )


def test_a_run_directory_that_is_the_folder_itself(tmp_path, capsys):
    make(tmp_path, ["a.png", "b/c.png"])
    before = parts_of(tmp_path, "file")
    make(tmp_path, ["config.json", "checkpoints/latest/x.npz", "images/panel.png"])
    make(tmp_path, ["evaluation-worst.png", "tensorboard/train/sprite.png"])
    assert parts_of(tmp_path, "file") == before
    assert capsys.readouterr().err.count("folders of runs and studies") == 1


# What Pillow reads, but is not a picture: data, films, documents, fonts.
NO_PICTURES = """
.bufr .grib .h5 .hdf .fli .flc .mpg .mpeg .ps .pdf .palm .iim .ftc .ftu .gbr .msp .bw
.vda .vst
"""


def test_all_suffixes_of_pictures_are_read_or_reported(tmp_path, capsys):
    Image.init()
    suffixes = set(Image.EXTENSION) - {*NO_PICTURES.split()}
    suffixes |= {".heic", ".jxl", ".dng", ".CR2", ".nef", ".svg", ".psd", ".exr"}
    make(tmp_path, [f"a{suffix}" for suffix in suffixes])
    make(tmp_path, ["b.heic", "c.heic", "notes.txt", "._d.heic", "jpg"])
    found = find_pictures(str(tmp_path), "INPUT x")
    assert found == [f"a{suffix}" for suffix in sorted(SUFFIXES)]
    assert {".jfif", ".jpe", ".tiff"} <= set(SUFFIXES)
    (line,) = capsys.readouterr().err.splitlines()
    count = len(suffixes) - len(found) + 2
    assert (
        f"INPUT x: files that may be pictures are skipped: {count} (3 .heic, " in line
    )
    assert ", for example a." in line and "1 .cr2" in line and ".txt" not in line
    assert find_pictures(str(tmp_path), "INPUT x", report=False) == found
    assert capsys.readouterr().err == ""


def test_jpeg_files_of_any_suffix_are_taken(tmp_path):
    names = ["a.jfif", "b.JPE", "c.jpg", "d.JPEG"]
    make(tmp_path, names)
    assert find_pictures(str(tmp_path), "INPUT x") == sorted(names)


def test_warnings_are_printed_once_for_both_parts(tmp_path, capsys):
    make(tmp_path, ["a.png", "b.heic", "c.png"])
    parts_of(tmp_path, "file")
    assert capsys.readouterr().err.count("warning:") == 1
