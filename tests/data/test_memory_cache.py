from concurrent.futures import ThreadPoolExecutor

import numpy as np

from aelab.data.decode import Stored
from aelab.data.memory_cache import MemoryCache


class Files:
    """Counts how many times each picture is decoded."""

    def __init__(self, kilobytes=400):
        self.size, self.decoded = kilobytes * 1000, []

    def get(self, cache, name):
        def decode():
            self.decoded.append(name)
            return Stored(np.full((self.size, 1, 1), int(name), np.uint8), 1)

        return cache.get(name, decode)


def test_pictures_that_fit_are_decoded_once():
    files, cache = Files(), MemoryCache(1)
    for name in "0101":
        assert files.get(cache, name).pixels[0] == int(name)
    assert files.decoded == ["0", "1"]


def test_the_first_pictures_stay_when_there_is_no_room_for_more():
    """The third one is decoded, and then there is no room: the caller reads a part."""
    files, cache = Files(), MemoryCache(1)
    found = [files.get(cache, name) for name in "012012"]
    assert [each is None for each in found] == [False] * 5 + [True]
    assert files.decoded == ["0", "1", "2"]


def test_one_that_does_not_fit_ends_it():
    """Others would be decoded whole each time, to cut a small square."""
    large, small, cache = Files(2000), Files(1), MemoryCache(1)
    assert small.get(cache, "0").pixels[0] == 0
    assert large.get(cache, "1").pixels[0] == 1
    assert small.get(cache, "0").pixels[0] == 0
    assert small.get(cache, "2") is None


def test_without_memory_nothing_is_decoded():
    files = Files()
    assert files.get(MemoryCache(0), "0") is None
    assert files.decoded == []


def test_threads_may_use_it_at_once():
    files, cache = Files(kilobytes=1), MemoryCache(1)
    with ThreadPoolExecutor(8) as threads:
        for found in threads.map(
            lambda n: (n, files.get(cache, str(n % 7))), range(700)
        ):
            assert found[1].pixels[0] == found[0] % 7
    assert 7 <= len(files.decoded) <= 7 * 8
