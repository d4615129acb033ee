"""Tests of the embedded data set."""

import hashlib

import numpy as np
import pytest

from aelab.data import synthetic

COUNT = 3 * synthetic.BLOCK + 7


@pytest.fixture(scope="module")
def drawn():
    return synthetic.draw_images(COUNT, seed=1)


def test_shapes_and_dtypes(drawn):
    images, kinds = drawn
    assert images.shape == (COUNT, 28, 28, 1)
    assert images.dtype == np.uint8
    assert kinds.shape == (COUNT,)
    assert kinds.dtype == np.uint8


def test_there_are_ten_kinds():
    assert len(set(synthetic.KINDS)) == 10


def test_kinds_are_equally_likely(drawn):
    shares = np.bincount(drawn[1], minlength=10) / COUNT
    assert len(shares) == 10
    # Five standard deviations of a share of 1,543 draws.
    np.testing.assert_allclose(shares, 0.1, atol=5 * (0.1 * 0.9 / COUNT) ** 0.5)


def test_kinds_are_shuffled(drawn):
    assert len(set(drawn[1][:50].tolist())) > 5


def test_fewer_images_are_a_prefix(monkeypatch):
    monkeypatch.setattr(synthetic, "BLOCK", 16)
    whole = synthetic.draw_images(40, seed=1)
    for count in (1, 15, 16, 17, 31, 32, 33):
        images, kinds = synthetic.draw_images(count, seed=1)
        np.testing.assert_array_equal(images, whole[0][:count])
        np.testing.assert_array_equal(kinds, whole[1][:count])


def test_seeds_differ(drawn):
    images, kinds = synthetic.draw_images(100, seed=2)
    assert (kinds != drawn[1][:100]).mean() > 0.7
    assert (images != drawn[0][:100]).any(axis=(1, 2, 3)).all()


def test_blocks_differ(drawn):
    block = synthetic.BLOCK
    assert (drawn[0][:block] != drawn[0][block : 2 * block]).any(axis=(1, 2, 3)).all()


def test_all_images_differ(drawn):
    assert len(np.unique(drawn[0].reshape(COUNT, -1), axis=0)) == COUNT


def test_global_random_state_is_untouched():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    synthetic.draw_images(1, seed=0)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("kind", range(10), ids=synthetic.KINDS)
class TestKind:
    """Statistics of the pictures of each kind."""

    @pytest.fixture
    def images(self, drawn, kind):
        return drawn[0][drawn[1] == kind, ..., 0]

    def test_corners_are_black(self, images):
        assert (images[:, 0, :2] == 0).mean() > 0.95
        assert (images[:, 0, -2:] == 0).mean() > 0.95
        assert (images == 0).mean() > 0.2

    def test_brightness(self, images):
        assert 15 < images.mean() < 120
        assert images.max(axis=(1, 2)).min() > 50
        assert (images > 0).mean(axis=(1, 2)).min() > 0.05
        assert (images == 255).mean() < 0.15

    def test_edges_are_soft(self, images):
        """Pixels next to the background are a mixture with it."""
        lit = np.pad(images > 0, ((0, 0), (1, 1), (1, 1)))
        within = lit[:, :-2, 1:-1] & lit[:, 2:, 1:-1] & lit[:, 1:-1, :-2]
        within &= lit[:, 1:-1, 2:]
        edge = (images > 0) & ~within
        assert images[edge].mean() < 0.75 * images[within].mean()
        assert len(np.unique(images[edge])) > 60

    def test_shapes_and_grays_vary(self, images):
        assert (images > 0).sum(axis=(1, 2)).std() > 15
        assert images.max(axis=(1, 2)).std() > 10
        assert images.std(axis=0).max() > 50

    def test_kind_differs_from_the_others(self, drawn, images, kind):
        mean = images.mean(axis=0)
        for other in set(range(10)) - {kind}:
            others = drawn[0][drawn[1] == other, ..., 0].mean(axis=0)
            assert np.abs(mean - others).max() > 15


@pytest.mark.parametrize("draw", synthetic._DRAW.values(), ids=synthetic.KINDS)
def test_drawing_stays_in_float32(draw):
    """A single float64 scalar would double the time."""
    rng = np.random.default_rng(0)
    sketch = synthetic.Sketch(
        rng.random((2, synthetic.DICE), np.float32),
        rng.random((2, synthetic.SIDE, synthetic.SIDE), np.float32),
    )
    draw(sketch)
    for array in (sketch.x, sketch.y, sketch.cloth, sketch.picture, sketch.accent):
        assert array.dtype == np.float32


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_below_one_is_refused(count):
    with pytest.raises(ValueError, match=f"count must be at least 1, not {count}"):
        synthetic.draw_images(count, seed=0)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed must be at least 0, not -1"):
        synthetic.draw_images(1, seed=-1)


def test_bytes_are_the_same_on_every_machine():
    # The digest is our own output. It only checks that every CPU, system and NumPy
    # version draws the same bytes. Replace it when the pictures change on purpose.
    images, kinds = synthetic.draw_images(300, seed=1)
    digest = hashlib.sha256(images.tobytes() + kinds.tobytes()).hexdigest()
    expected = "97e7e5cb613fca435c54382ca8c831718b3a0d91d1cb474bd581939b363727a0"
    assert digest == expected


def test_other_seeds_share_no_picture(drawn):
    """So no picture is used for both training and evaluation."""
    seen = {image.tobytes() for image in drawn[0]}
    others, _ = synthetic.draw_images(1000, seed=2)
    assert not seen & {image.tobytes() for image in others}
