"""aelab: autoencoders with a training loop to read and change."""

__version__ = "0.2.0"
