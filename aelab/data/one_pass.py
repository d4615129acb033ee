"""Elementwise functions of images, compiled where that pays."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf


def one_pass(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """Compiles an elementwise function of images with XLA, in one pass over them.

    A single picture is computed without XLA, with the same numbers: pictures differ in
    size, and XLA would compile a program for each.
    """
    compiled = tf.function(function, jit_compile=True, autograph=False)

    @functools.wraps(function)
    def of_batch_or_picture(images: tf.Tensor, *arguments: Any) -> tf.Tensor:
        """The function, compiled if there are several images."""
        chosen = function if images.shape[0] == 1 else compiled
        return chosen(images, *arguments)

    return of_batch_or_picture
