"""aelab: autoencoders with a training loop to read and change."""

__version__ = "0.1.0"
