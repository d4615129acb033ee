"""Compressed files: real bytes of an autoencoder's code."""

from aelab.codec.compressing import compress
from aelab.codec.decompressing import decompress

__all__ = ["compress", "decompress"]
