from aelab.data.copies import copies


def test_only_files_that_are_equal_from_end_to_end_are_copies(tmp_path):
    size = 300_000  # more than a block on each side of the middle
    changed = {"first": 0, "middle": size // 2, "last": size - 1}
    contents = {"a": bytes(size), "copy": bytes(size), "short": bytes(size - 1)}
    for name, place in changed.items():
        contents[name] = bytes(place) + b"x" + bytes(size - place - 1)
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    sizes = {name: len(content) for name, content in contents.items()}
    own = [("a", size), ("gone", size)]
    others = [(n, sizes[n]) for n in ("short", "copy", *changed)] + [("away", size)]
    assert copies(str(tmp_path), own, others) == ["copy"]
    assert copies(str(tmp_path), own, []) == []
