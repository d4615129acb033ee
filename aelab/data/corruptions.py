"""Image corruptions, by name.

A corruption is a pure function `(images, key, config) -> images` of float32
[n, H, W, C] in [0, 1]; with `noise_clip` off, `gaussian` leaves that range. All its
randomness comes from `key`, so an example is corrupted in the same way in every batch,
replica, thread and process. A compiler cannot change the rounding of a result, for
example by fusing a product and a sum or by replacing a quotient: each result comes from
a table, or from steps that are exact or rounded in one way only.
"""

import functools
import math

import numpy as np
import tensorflow as tf

from aelab.config import FIELDS, Config
from aelab.config.registry import CORRUPTIONS, load
from aelab.data.one_pass import one_pass
from aelab.data.pixels import LEVELS_PER_BYTE, unit_tensor
from aelab.data.randomness import LEVELS, NEXT_MEMBER, Key, bits_of, random_bits


def none(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Changes nothing: for pictures that are noisy already."""
    return images


@one_pass
def _replace(
    images: tf.Tensor, bits: tf.Tensor, zeros: tf.Tensor, hits: tf.Tensor
) -> tf.Tensor:
    """0 where the bits are below `zeros`, else 1 where they are below `hits`."""
    bits = tf.reshape(tf.cast(bits, tf.int32), tf.shape(images))
    return tf.where(bits < zeros, 0.0, tf.where(bits < hits, 1.0, images))


def salt_and_pepper(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Sets each value to 0 or 1, with probability `salt_and_pepper_rate` / 2 each.

    Each channel of a pixel is hit or not independently of the others, as in
    `skimage.util.random_noise(mode="s&p")`. The rate is rounded to a 65,536th.
    """
    hits = tf.constant(round(config.salt_and_pepper_rate * LEVELS))
    return _replace(images, bits_of(images, key), hits // 2, hits)


def masking(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Sets each value with probability `masking_rate` to 0.

    The noise of Vincent et al. 2008, whose "components" of the input are also single
    values, as in `salt_and_pepper`. They mask the same number of values in each image;
    here each value is drawn independently. The rate is rounded to a 65,536th.
    """
    hits = tf.constant(round(config.masking_rate * LEVELS))
    return _replace(images, bits_of(images, key), hits, hits)


@functools.lru_cache(maxsize=4)
def photon_table(peak: float) -> np.ndarray:
    """Cumulative distribution functions of photon counts: int32 [256, K].

    K is a power of two. Entry (i, k) is the probability of at most k photons where an
    image is i / 255, in 65,536ths; `peak` is their mean number where it is 1. The last
    column is 65,536.
    """
    counts = np.arange(1 << (int(peak + 6 * math.sqrt(peak)) + 10).bit_length())
    means = peak * np.arange(1, LEVELS_PER_BYTE)[:, np.newaxis] / 255
    log_factorials = np.array([math.lgamma(count + 1) for count in counts])
    chances = np.exp(counts * np.log(means) - means - log_factorials)
    functions = np.rint(np.cumsum(chances, axis=1) * LEVELS)
    no_light = np.full((1, len(counts)), LEVELS)
    return np.concatenate([no_light, functions]).astype(np.int32)


@one_pass
def _count_photons(
    images: tf.Tensor, bits: tf.Tensor, functions: tf.Tensor, shown: tf.Tensor
) -> tf.Tensor:
    """Looks up counts in the distribution functions; count k becomes `shown[k]`."""
    # The count is the number of entries of a value's function that are at most its
    # bits, by a binary search without branches, faster than `tf.searchsorted`.
    num_counts = functions.shape[1]
    light = tf.cast(tf.round(images * 255), tf.int32)
    bits = tf.reshape(tf.cast(bits, tf.int32), tf.shape(images))
    entries, count = tf.reshape(functions, [-1]), tf.zeros_like(light)
    step = num_counts // 2
    while step:
        entry = tf.gather(entries, light * num_counts + count + step - 1)
        count = tf.where(entry <= bits, count + step, count)
        step //= 2
    return tf.gather(shown, count)


def poisson(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Counts photons, on average `poisson_peak` where an image is 1.

    A value x becomes Poisson(peak * x) / peak, clipped to [0, 1]: the usual model of
    images in low light, for example in Makitalo and Foi 2011. x is first rounded to the
    nearest 8-bit value. The count is the position of a random 16-bit number in the
    distribution function, see `photon_table`.
    """
    functions = tf.constant(photon_table(config.poisson_peak))
    counts = np.arange(functions.shape[1])
    shown = tf.constant(np.minimum(counts / config.poisson_peak, 1.0), tf.float32)
    return _count_photons(images, bits_of(images, key), functions, shown)


def jpeg(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Encodes each image as JPEG with `jpeg_quality` and decodes it.

    The quality is libjpeg's, 1 to 100; chroma has half the resolution. With
    `jpeg_quality_max` each image has its own quality, uniform between the two. Images
    of three channels are RGB. For other numbers of channels, each channel becomes a
    gray file.
    """

    def through_file(image_and_quality: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """The image, uint8 [H, W, 1 or 3], after encoding and decoding."""
        image, quality = image_and_quality
        file = tf.raw_ops.EncodeJpegVariableQuality(images=image, quality=quality)
        return tf.io.decode_jpeg(file, dct_method="INTEGER_ACCURATE")

    lowest = config.jpeg_quality
    count = max(config.jpeg_quality_max - lowest, 0) + 1
    bits = random_bits(key, tf.shape(images)[0], tf.constant(1))[:, 0]
    qualities = lowest + tf.cast(bits, tf.int32) * count // LEVELS
    pixels = tf.cast(tf.round(images * 255), tf.uint8)
    channels = images.shape[-1]
    parts = [pixels] if channels == 3 else tf.split(pixels, channels, axis=3)
    decoded = [
        tf.map_fn(through_file, (part, qualities), fn_output_signature=tf.uint8)
        for part in parts
    ]
    return tf.ensure_shape(unit_tensor(tf.concat(decoded, axis=3)), images.shape)


def corrupt(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Applies the corruptions that `config` names, from left to right.

    The first has the random numbers of `key`, and each of the others, even if it is a
    repeat, has its own.
    """
    for position, name in enumerate(config.corruptions()):
        function = load(CORRUPTIONS[name], f"--corruption={name}")
        images = function(images, key.offset_by(position * NEXT_MEMBER), config)
    return images


def describe(config: Config) -> str:
    """The corruptions with their levels, in order, as readable text."""
    members = []
    for name in config.corruptions():
        levels = [
            f"{field} {level}"
            for field, declared in FIELDS.items()
            if name in declared.metadata["only_with"].get("corruption", ())
            and (level := getattr(config, field))
            and not isinstance(level, bool)
        ]
        if levels:
            if name == "gaussian" and not config.noise_clip:
                levels.append("not clipped")
            members.append(f"{name} ({', '.join(levels)})")
    return ", ".join(members) or "none"
