import os

import pytest

from aelab.errors import UsageError
from aelab.system.outputs import check_output_file, check_outputs


def test_an_existing_output_needs_permission(tmp_path):
    paths = [str(tmp_path / name) for name in ("new", "old", "link")]
    (tmp_path / "old").touch()
    (tmp_path / "link").symlink_to("nowhere")
    check_outputs(paths[:1], overwrite=False)
    check_outputs(paths, overwrite=True)
    check_outputs(paths, overwrite=False, is_own=lambda path: True)
    message = r"old exists already \(2 of 3 files do\): give --overwrite"
    with pytest.raises(UsageError, match=message):
        check_outputs(paths, overwrite=False)


def test_an_input_is_never_replaced(tmp_path):
    source = tmp_path / "source"
    source.touch()
    os.link(source, tmp_path / "other_name")
    (tmp_path / "link").symlink_to(source)
    for name in ("source", "other_name", "link"):
        with pytest.raises(UsageError, match=f"{name} would replace the input"):
            check_outputs([str(tmp_path / name)], True, [str(source)])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.txt", "must end in .html"),
        ("folder.html", "is a folder; give the name of a file"),
        ("none/a.html", "the folder .*/none does not exist"),
        ("input.html", "would replace the input .*/link.html"),
    ],
)
def test_a_bad_output_file_is_refused(tmp_path, name, message):
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "input.html").touch()
    link = tmp_path / "link.html"
    link.symlink_to("input.html")
    path = tmp_path / name
    with pytest.raises(UsageError, match=f"^--output[:=] ?{path}.*{message}"):
        check_output_file(str(path), ".html", True, [str(link)])
