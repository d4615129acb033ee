"""Changes to training images that keep what they show, and the dither of their codes.

An augmentation is a pure function `(images, key, config) -> images` of float32
[n, H, W, C]. It must not clip: for Noise2Void the images are noisy, and their values
may lie outside [0, 1]. All its randomness comes from `key`.
"""

import tensorflow as tf

from aelab.config import Config
from aelab.config.registry import AUGMENTATIONS, load
from aelab.data.randomness import LEVELS, NEXT_MEMBER, Key, random_bits


def augment(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Applies all augmentations in the registry's order, with keys as in `corrupt`."""
    for position, (name, target) in enumerate(AUGMENTATIONS.items()):
        function = load(target, f"augmentation {name}")
        images = function(images, key.offset_by(position * NEXT_MEMBER), config)
    return images


def move(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Mirrors and shifts images at random.

    With `mirror`, half of the images are mirrored left to right. Each image is shifted
    down and right by whole pixels, uniform in [-max_shift, max_shift]. Pixels that a
    shift uncovers repeat the edge.
    """
    if not config.mirror and not config.max_shift:
        return images
    rows = tf.shape(images)[0]
    bits = tf.cast(random_bits(key, rows, tf.constant(3)), tf.int32)
    shifts = bits * (2 * config.max_shift + 1) // LEVELS - config.max_shift
    height, width = images.shape[1:3]
    down = tf.clip_by_value(tf.range(height) - shifts[:, :1], 0, height - 1)
    right = tf.clip_by_value(tf.range(width) - shifts[:, 1:2], 0, width - 1)
    if config.mirror:
        right = tf.where(bits[:, 2:] < LEVELS // 2, width - 1 - right, right)
    moved = tf.gather(images, down, axis=1, batch_dims=1)
    return tf.gather(moved, right, axis=2, batch_dims=1)


def turn(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Turns images by 0, 90, 180 or 270 degrees, each with the same probability.

    Together with `mirror` this gives the eight symmetries of the square.
    """
    if not config.turn:
        return images
    rows = tf.shape(images)[0]
    quarters = tf.cast(random_bits(key, rows, tf.constant(1)), tf.int32) * 4 // LEVELS
    quarters = tf.reshape(quarters, [-1, 1, 1, 1])
    images = tf.where(quarters % 2 == 1, tf.transpose(images, [0, 2, 1, 3]), images)
    images = tf.where(quarters // 2 == 1, tf.reverse(images, [1]), images)
    is_reversed = (quarters == 1) | (quarters == 2)
    return tf.where(is_reversed, tf.reverse(images, [2]), images)


def dither(key: Key, rows: int, size: int) -> tf.Tensor:
    """Uniform noise in (-1/2, 1/2), one of 65,536 values: float32 [rows, size]."""
    bits = random_bits(key, tf.constant(rows), tf.constant(size))
    return (tf.cast(bits, tf.float32) + 0.5) / LEVELS - 0.5
