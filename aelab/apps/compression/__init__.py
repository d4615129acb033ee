"""Compressed files: the code of an autoencoder as real bytes.

For example:

    compress("runs/codec", ["images-idx3-ubyte.gz"], "images.aelab")
    decompress("runs/codec", "images.aelab", "folder")
"""

from aelab.apps.compression.compress import compress
from aelab.apps.compression.decompress import decompress

__all__ = ["compress", "decompress"]
