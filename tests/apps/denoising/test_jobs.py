import os

import pytest

from aelab.apps.denoising.files import PictureError, read_picture
from aelab.apps.denoising.jobs import Job, plan_jobs
from aelab.errors import UsageError


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_folders_are_searched_and_files_are_taken_by_any_name(tmp_path):
    names = ["b.PNG", "a.jpeg", "sub/deep/a.tif", "sub/a.Gif", "x.txt", ".c.png"]
    names += [".git/d.png", "out/e.png"]
    touch(*(tmp_path / "in" / name for name in names), tmp_path / "other.dat")
    output = str(tmp_path / "in" / "out")
    inputs = [str(tmp_path / "in"), str(tmp_path / "other.dat")]
    expected = ["a.jpeg", "b.PNG", "sub/a.Gif", "sub/deep/a.tif"]
    targets = ["a.jpeg", "b.PNG", "sub/a.png", "sub/deep/a.tif"]  # GIF becomes PNG
    assert plan_jobs(inputs, output) == [
        *(
            Job(f"{inputs[0]}/{name}", f"{output}/{target}", "")
            for name, target in zip(expected, targets, strict=True)
        ),
        Job(inputs[1], f"{output}/other.dat", ""),
    ]
    assert [job.comparison for job in plan_jobs(inputs, output, compare=True)] == [
        f"{output}/{stem}-compare.png"
        for stem in ("a", "b", "sub/a", "sub/deep/a", "other")
    ]
    assert os.listdir(output) == ["e.png"]


@pytest.mark.parametrize(
    ("inputs", "compare", "written"),
    [
        (["x/a.png", "y/a.png"], False, "out/a.png"),
        (["x", "y"], False, "out/a.png"),
        (["x", "x/../x/a.png"], False, "out/a.png"),
        (["x/a.png", "z/a.jpg"], True, "out/a-compare.png"),
        (["x/a.png", "z/a.gif"], False, "out/a.png"),
        (["x/a.png", "z/a-compare.png"], True, "out/a-compare.png"),
    ],
)
def test_two_outputs_with_one_name_are_refused(inputs, compare, written, tmp_path):
    touch(*(tmp_path / name for name in ("x/a.png", "y/a.png", "z/a.jpg", "z/a.gif")))
    touch(tmp_path / "z" / "a-compare.png")
    inputs = [str(tmp_path / name) for name in inputs]
    with pytest.raises(UsageError, match="would both be written") as caught:
        plan_jobs(inputs, str(tmp_path / "out"), compare)
    assert written in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["x", "y", "z"]


@pytest.mark.parametrize(
    "names", [["x/a.png"] * 2, ["x", "x/a.png"], ["x", "x", "x/a.png"]]
)
def test_an_input_given_twice_counts_once(names, tmp_path):
    touch(tmp_path / "x" / "a.png")
    inputs = [str(tmp_path / name) for name in names]
    (job,) = plan_jobs(inputs, str(tmp_path / "out"), compare=True)
    assert job.source == str(tmp_path / "x" / "a.png")


def test_links_to_missing_files_are_pictures_that_fail(tmp_path):
    touch(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "none.png")
    os.mkfifo(tmp_path / "in" / "c.png")
    jobs = plan_jobs([str(tmp_path / "in")], str(tmp_path / "out"))
    assert [os.path.basename(job.source) for job in jobs] == ["a.png", "b.png"]
    with pytest.raises(PictureError, match="No such file"):
        read_picture(jobs[1].source)


def test_skipped_pictures_are_reported_in_one_line(tmp_path, capsys):
    folder = tmp_path / "in"
    touch(*(folder / name for name in ("a.png", "b.AVIF", "sub/c.heic", "d.txt")))
    touch(folder / ".e.avif", folder / "out" / "f.avif")
    (job,) = plan_jobs([str(folder)], str(folder / "out"))
    assert job.source == str(folder / "a.png")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"warning: INPUT {folder}: files that may be pictures are skipped: 2 (1 .avif, "
        "1 .heic), for example b.AVIF; "
    )
    assert ".jpg, .png" in line


def test_a_run_in_a_folder_of_pictures_is_skipped(tmp_path, capsys):
    folder = tmp_path / "in"
    touch(*(folder / name for name in ("a.jfif", "run/config.json", "run/b.png")))
    touch(folder / "run" / "checkpoints" / "latest" / "x.npz")
    (job,) = plan_jobs([str(folder)], str(tmp_path / "out"))
    assert job.target == str(tmp_path / "out" / "a.jfif")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"for example {folder}/run")
    (job,) = plan_jobs([str(folder / "run")], str(tmp_path / "out"))
    assert job.target == str(tmp_path / "out" / "b.png")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "how", ["same", "folder_link", "link", "hard_link", "backward"]
)
def test_no_input_is_replaced(how, overwrite, tmp_path):
    source, output = tmp_path / "in" / "a.png", tmp_path / "out"
    touch(source)
    if how == "same":
        output = tmp_path / "in" / ".." / "in"
    elif how == "folder_link":
        output.symlink_to(tmp_path / "in")
    else:
        output.mkdir()
    target = output / "a.png"
    if how == "link":
        target.symlink_to(source)
    elif how == "hard_link":
        target.hardlink_to(source)
    elif how == "backward":
        source.unlink()
        touch(target)
        source.symlink_to(target)
    with pytest.raises(UsageError, match=r"--output: .* would replace the input"):
        plan_jobs([str(source)], str(output), overwrite=overwrite)


def test_no_input_is_replaced_by_another_one(tmp_path):
    touch(tmp_path / "in" / "a.png", tmp_path / "out" / "a.png")
    inputs = [str(tmp_path / "in"), str(tmp_path / "out" / "a.png")]
    with pytest.raises(UsageError, match="would"):
        plan_jobs(inputs, str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("given", "message"),
    [("none.png", "none.png: no such file or folder"), ("empty", "has no pictures")],
)
def test_inputs_without_pictures_are_refused(given, message, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=message):
        plan_jobs([str(tmp_path / given)], str(tmp_path / "out"))


def test_an_output_that_is_a_file_is_refused(tmp_path):
    touch(tmp_path / "a.png", tmp_path / "out")
    with pytest.raises(UsageError, match="out is a file"):
        plan_jobs([str(tmp_path / "a.png")], str(tmp_path / "out"))
