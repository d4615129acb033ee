from concurrent.futures import ThreadPoolExecutor

import numpy as np

from aelab.data.noisy_pictures import NoisyPictures

HEIGHT, WIDTH, SIZE = 20, 30, 8


class Pictures:
    """Two 16-bit pictures; counts how many times each is read."""

    image_shape, dtype = (SIZE, SIZE, 1), np.dtype(np.uint16)

    def __init__(self):
        self.read = []

    def picture(self, index):
        self.read.append(index)
        return np.full((HEIGHT, WIDTH, 1), 1000 * (index + 1), np.uint16)


def add_noise(clean, index):
    return clean + np.random.default_rng(index).normal(size=clean.shape).astype("f")


def noisy(megabytes=1):
    source = Pictures()
    return source, NoisyPictures(source, add_noise, megabytes)


def test_overlapping_crops_agree():
    """A pixel of a picture has one noisy value, wherever it is cut."""
    source, pictures = noisy()
    clean = np.full((HEIGHT, WIDTH, 1), 1000 / 65535, np.float32)
    expected = add_noise(clean, 0)
    generator = np.random.default_rng(0)
    places = generator.integers(0, 2**32, (40, 2), dtype=np.uint32)
    for square, place in zip(
        pictures.crops(np.zeros(40, int), places), places, strict=True
    ):
        top = int(place[0]) * (HEIGHT - SIZE + 1) >> 32
        left = int(place[1]) * (WIDTH - SIZE + 1) >> 32
        part = expected[top : top + SIZE, left : left + SIZE]
        np.testing.assert_array_equal(square, part)
    assert source.read == [0]


def test_memory_is_limited_and_changes_nothing():
    places = np.zeros((4, 2), np.uint32)
    indices = np.array([0, 1, 0, 1])
    (kept, all_), (again, none) = noisy(1), noisy(0)
    np.testing.assert_array_equal(
        all_.crops(indices, places), none.crops(indices, places)
    )
    assert (kept.read, again.read) == ([0, 1], [0, 1, 0, 1])


def test_threads_may_use_it_at_once():
    _, pictures = noisy()
    expected = [pictures.picture(n) for n in (0, 1)]
    with ThreadPoolExecutor(8) as threads:
        for n, found in enumerate(
            threads.map(lambda n: pictures.picture(n % 2), range(200))
        ):
            np.testing.assert_array_equal(found, expected[n % 2])
