import pytest

from aelab.apps.denoising.tiles import cut


@pytest.mark.parametrize("tile", [36, 48, 64])
@pytest.mark.parametrize("size", [1, 5, 40, 64, 65, 100, 163])
def test_tiles_use_each_pixel_once(size, tile):
    margin = 16
    extended = -(-size // 4) * 4 + 2 * margin
    tile = min(extended, tile)
    spans = cut(size, extended, tile, margin)
    assert [p for s in spans for p in range(s.first, s.end)] == list(range(size))
    for span in spans:
        assert span.start % 4 == 0
        assert -margin <= span.start <= extended - margin - tile
        assert (
            span.start + margin <= span.first < span.end <= span.start + tile - margin
        )
