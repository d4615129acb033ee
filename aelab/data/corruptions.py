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
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from aelab.config import FIELDS, Config
from aelab.config.registry import CORRUPTIONS, load
from aelab.data.correlation import correlate, correlated_table, side_weight
from aelab.data.pixels import LEVELS_PER_BYTE, unit_tensor
from aelab.data.randomness import LEVELS, NEXT_MEMBER, Key, normal_table, random_bits

_STDDEVS = 1 << 62  # offset of the stream that noise levels are drawn from


def _one_pass(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
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


def _bits_of(images: tf.Tensor, key: Key, border: int = 0) -> tf.Tensor:
    """A random 16-bit number for each value of an image: uint16 [n, H * W * C].

    With a border, H and W are larger by `border` on each side.
    """
    n, height, width, channels = tf.unstack(tf.shape(images))
    size = (height + 2 * border) * (width + 2 * border) * channels
    return random_bits(key, n, size)


@_one_pass
def _add(images: tf.Tensor, bits: tf.Tensor, table: tf.Tensor, clip: bool) -> tf.Tensor:
    """Adds noise from a table, in one pass. Without XLA the numbers are the same."""
    noise = tf.gather(table, tf.cast(bits, tf.int32))
    noisy = images + tf.reshape(noise, tf.shape(images))
    return tf.clip_by_value(noisy, 0.0, 1.0) if clip else noisy


@_one_pass
def _scale_and_add(
    images: tf.Tensor,
    bits: tf.Tensor,
    table: tf.Tensor,
    stddevs: tf.Tensor,
    clip: bool,
) -> tf.Tensor:
    """Adds scaled noise. The product of two float32 is exact in float64."""
    noise = tf.gather(table, tf.cast(bits, tf.int32))
    return _sum(images, tf.reshape(noise, tf.shape(images)), stddevs, clip)


@_one_pass
def _correlate_and_add(
    images: tf.Tensor,
    bits: tf.Tensor,
    table: tf.Tensor,
    stddevs: tf.Tensor,
    side: tf.Tensor,
    clip: bool,
) -> tf.Tensor:
    """Adds scaled noise that is correlated; `bits` have a border of one pixel."""
    n, height, width, channels = tf.unstack(tf.shape(images))
    noise = tf.gather(table, tf.cast(bits, tf.int32))
    noise = tf.reshape(noise, [n, height + 2, width + 2, channels])
    return _sum(images, correlate(noise, side), stddevs, clip)


def _sum(
    images: tf.Tensor, noise: tf.Tensor, stddevs: tf.Tensor, clip: bool
) -> tf.Tensor:
    """Images plus noise times the level of each image, float32 [n, 1].

    The product is exact in float64, so fusing it with the sum changes nothing.
    """
    scales = tf.cast(stddevs, tf.float64)[:, tf.newaxis, tf.newaxis]
    noisy = tf.cast(images, tf.float64) + tf.cast(noise, tf.float64) * scales
    noisy = tf.cast(noisy, tf.float32)
    return tf.clip_by_value(noisy, 0.0, 1.0) if clip else noisy


def none(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Changes nothing: for pictures that are noisy already."""
    return images


def gaussian(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Adds Gaussian noise of `noise_stddev`, and clips to [0, 1] with `noise_clip`.

    Clipped, it is the usual corruption of denoising autoencoders (Vincent et al. 2010).
    The literature on denoising does not clip, for example Zhang et al. 2017. Without
    correlation each noise value is one of 65,536, see `normal_table`. To look up, add
    and clip them takes a quarter of the time of `tf.random.stateless_normal`.

    With `noise_stddev_max` each image has its own level, uniform between the two and
    one of 65,536 values. One model then learns to remove noise of unknown level
    ("blind" denoising, like DnCNN-B of Zhang et al. 2017).

    With `noise_correlation` the noise of adjacent pixels is correlated, as in pictures
    of a camera. Each value is then a weighted sum of nine values from a table, see
    `correlation.py`.
    """
    lowest, highest = config.noise_stddev, config.noise_stddev_max
    if lowest == highest == 0:
        return images
    if config.noise_correlation:
        side = side_weight(config.noise_correlation)
        table, unit = correlated_table(side)
        return _correlate_and_add(
            images,
            _bits_of(images, key, 1),
            tf.constant(table),
            _stddevs(images, key, config, unit),
            tf.constant(side),
            config.noise_clip,
        )
    bits = _bits_of(images, key)
    if highest == 0:
        table = tf.constant(lowest * normal_table(), tf.float32)
        return _add(images, bits, table, config.noise_clip)
    table = tf.constant(normal_table(), tf.float32)
    stddevs = _stddevs(images, key, config)
    return _scale_and_add(images, bits, table, stddevs, config.noise_clip)


def _stddevs(
    images: tf.Tensor, key: Key, config: Config, unit: float = 1.0
) -> tf.Tensor:
    """The noise level of each image, in multiples of `unit`: float32 [n, 1]."""
    lowest, highest = config.noise_stddev, config.noise_stddev_max
    rows = tf.shape(images)[0]
    if highest == 0:
        return tf.fill([rows, 1], np.float32(lowest / unit))
    parts = (np.arange(LEVELS) + 0.5) / LEVELS
    levels = tf.constant((lowest + (highest - lowest) * parts) / unit, tf.float32)
    drawn = random_bits(key.offset_by(_STDDEVS), rows, tf.constant(1))
    return tf.gather(levels, tf.cast(drawn, tf.int32))


@_one_pass
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
    return _replace(images, _bits_of(images, key), hits // 2, hits)


def masking(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Sets each value with probability `masking_rate` to 0.

    The noise of Vincent et al. 2008, whose "components" of the input are also single
    values, as in `salt_and_pepper`. They mask the same number of values in each image;
    here each value is drawn independently. The rate is rounded to a 65,536th.
    """
    hits = tf.constant(round(config.masking_rate * LEVELS))
    return _replace(images, _bits_of(images, key), hits, hits)


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


@_one_pass
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
    return _count_photons(images, _bits_of(images, key), functions, shown)


def jpeg(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Encodes each image as JPEG with `jpeg_quality` and decodes it.

    The quality is libjpeg's, 1 to 100; chroma has half the resolution. Images of three
    channels are RGB. For other numbers of channels, each channel becomes a gray file.
    """

    def through_file(image: tf.Tensor) -> tf.Tensor:
        """The image, uint8 [H, W, 1 or 3], after encoding and decoding."""
        file = tf.io.encode_jpeg(image, quality=config.jpeg_quality)
        return tf.io.decode_jpeg(file, dct_method="INTEGER_ACCURATE")

    pixels = tf.cast(tf.round(images * 255), tf.uint8)
    channels = images.shape[-1]
    parts = [pixels] if channels == 3 else tf.split(pixels, channels, axis=3)
    pixels = tf.concat([tf.map_fn(through_file, part) for part in parts], axis=3)
    return tf.ensure_shape(unit_tensor(pixels), images.shape)


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
