"""Compressed files: the code of an autoencoder as real bytes."""

from aelab.apps.compression.compress import compress
from aelab.apps.compression.decompress import decompress

__all__ = ["compress", "decompress"]
