"""aelab: autoencoders trained with a loop of your own."""

__version__ = "0.1.0"
