"""The random numbers of all noise, by NumPy: independent of TensorFlow."""

import numpy as np


def philox(key, counters):
    """Philox-4x32 of ten rounds (Salmon et al. 2011): uint32 [n, 4] for n counters."""
    low = np.uint64(0xFFFFFFFF)
    c = [np.array(counters, np.uint64) & low, np.array(counters, np.uint64) >> 32]
    c += [np.zeros_like(c[0]), np.zeros_like(c[0])]
    k = [np.uint64(key & 0xFFFFFFFF), np.uint64(key >> 32)]
    for _ in range(10):
        one, two = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(two >> 32) ^ c[1] ^ k[0], two & low, (one >> 32) ^ c[3] ^ k[1], one & low]
        k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
    return np.stack(c, axis=1).astype(np.uint32)


def noise_bits(stream, example, size):
    """The 16-bit numbers of one example: uint16 [size]."""
    blocks = -(-size // 8)
    words = philox(stream, example * blocks + np.arange(blocks))
    return words.astype("<u4").view("<u2").ravel()[:size]
