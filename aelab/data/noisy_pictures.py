"""Pictures with noise of their own, which does not change."""

from collections.abc import Callable

import numpy as np

from aelab.data.decode import cut_square
from aelab.data.memory_cache import MemoryCache
from aelab.data.pixels import to_unit
from aelab.data.sources import PictureSource


class NoisyPictures:
    """Crops of pictures to which noise was added before cutting.

    So a pixel of a picture has one noisy value, in whichever crop it is. Noisy pictures
    stay in memory, the first ones that are used, as long as they fit.
    """

    def __init__(
        self,
        source: PictureSource,
        corrupt: Callable[[np.ndarray, int], np.ndarray],
        megabytes: int,
    ):
        """`corrupt(picture, index)` adds the same noise each time: [H, W, C]."""
        self._source, self._corrupt = source, corrupt
        self._cache: MemoryCache[int, np.ndarray] = MemoryCache(megabytes)

    def picture(self, index: int) -> np.ndarray:
        """The noisy picture at `index`: float32 [H, W, C]."""
        kept = self._cache.get(index, lambda: self._add_noise(index))
        return self._add_noise(index) if kept is None else kept

    def _add_noise(self, index: int) -> np.ndarray:
        return self._corrupt(to_unit(self._source.picture(index)), index)

    def crops(self, indices: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Squares of upright pictures, float32 [n, size, size, C], as in `Source`."""
        size = self._source.image_shape[0]
        pairs = zip(indices.tolist(), places.tolist(), strict=True)
        return np.stack([cut_square(self.picture(i), size, *p) for i, p in pairs])
