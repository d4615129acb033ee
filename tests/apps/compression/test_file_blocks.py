import itertools

from hypothesis import given
from hypothesis import strategies as st

from aelab.apps.compression.file_blocks import Block, find_blocks, pack_block
from aelab.apps.compression.file_format import (
    IDX,
    Header,
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
    blocks = list(find_blocks(content, 0, firsts[-1]))
    assert all(isinstance(block, Block) for block in blocks)
    payloads = [content[block.start : block.end] for block in blocks]
    assert payloads == [payload for _, payload in parts]


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
    header, place = read_header(content, "x")
    parts = list(find_blocks(content, place, header.images))
    assert parts and all(isinstance(part, str) for part in parts)
    assert sum(sizes) < 20 * len(content)
