"""The peers' training data: arrays in memory, with one fixed noisy copy."""

import numpy as np

from aelab.config import Config
from aelab.data.pixels import to_unit


def load(path: str, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """The input and the target of training.

    Args:
      path: a .npy file of uint8 [n, H, W, C].
      config: its `noise_stddev` and `seed` determine the noise of the input.

    Returns:
      (x, y), both float32 [n, H, W, C] in [0, 1]; the same array if there is no noise.
    """
    y = to_unit(np.load(path))
    if not config.noise_stddev:
        return y, y
    x = np.random.default_rng(config.seed).standard_normal(y.shape, np.float32)
    x *= np.float32(config.noise_stddev)
    x += y
    return np.clip(x, 0, 1, out=x), y
