import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aelab.apps.compression.file_blocks import (
    Block,
    block_images,
    find_blocks,
    most_images,
    pack_block,
)
from aelab.apps.compression.file_format import (
    IDX,
    Header,
    Layout,
    Member,
    pack_header,
    read_header,
)


@given(st.lists(st.tuples(st.integers(1, 9), st.binary(max_size=40)), max_size=5))
def test_any_blocks_come_back(parts):
    firsts = list(itertools.accumulate((count for count, _ in parts), initial=0))
    content = b"".join(
        pack_block(first, count, 5, payload)
        for first, (count, payload) in zip(firsts, parts, strict=False)
    )
    header = Header(bytes(8), 0, (28, 28, 1), [Member(IDX, firsts[-1], "x")])
    blocks = list(find_blocks(content, Layout(header, 0, len(content), [])))
    assert all(isinstance(block, Block) for block in blocks)
    payloads = [content[block.start : block.end] for block in blocks]
    assert payloads == [payload for _, payload in parts]


@pytest.mark.parametrize("shape", [(28, 28, 1), (1024, 1024, 3), (2**35, 2**35, 1)])
def test_a_block_has_no_more_images_than_the_writer_packs(shape):
    header = Header(bytes(8), 0, shape, [Member(IDX, 5000, "x")])
    most = block_images(shape)
    for count in (most, most + 1):
        content = pack_block(0, count, 0, b"")
        layout = Layout(header, 0, len(content), [])
        found = [p for p in find_blocks(content, layout) if isinstance(p, Block)]
        assert len(found) == (count == most)
        assert most_images(layout) == most


def test_a_file_full_of_markers_is_given_up_soon():
    """Each marker promises a block as long as the rest of the file."""
    body = pack_header(Header(bytes(8), 0, (28, 28, 1), [Member(IDX, 99, "x")]))
    marker = pack_block(0, 1, 0, b"")[:10]
    block = marker + (150_000).to_bytes(4, "little") + bytes(8)
    sizes = []

    class Watched(bytes):
        def __getitem__(self, key):
            part = super().__getitem__(key)
            sizes.append(len(part) if isinstance(key, slice) else 1)
            return part

    content = Watched(body + block * 20_000)
    parts = list(find_blocks(content, read_header(content, "x")))
    assert len(parts) > 2 and all(isinstance(part, str) for part in parts)
    assert sum(sizes) < 20 * len(content)
