"""Compressed files: real bytes of an autoencoder's code."""

from aelab.apps.compression.compress import compress
from aelab.apps.compression.decompress import decompress

__all__ = ["compress", "decompress"]
