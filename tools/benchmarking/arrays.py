"""The data of the peers: arrays in memory, with one noisy copy that stays."""

import numpy as np

from aelab.config import Config


def load(path: str, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Input and target of training.

    Args:
      path: a .npy file of uint8 [n, H, W, C].
      config: how much noise the input has.

    Returns:
      (x, y), both float32 [n, H, W, C] in [0, 1]; the same array without noise.
    """
    y = np.load(path).astype(np.float32) / np.float32(255)
    if not config.noise_stddev:
        return y, y
    x = np.random.default_rng(config.seed).standard_normal(y.shape, np.float32)
    x *= np.float32(config.noise_stddev)
    x += y
    return np.clip(x, 0, 1, out=x), y
