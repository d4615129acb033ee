"""What is done to an image before the model sees it, by name.

A corruption is a pure function `(images, key, config) -> images` of float32
[n, H, W, C] in [0, 1]. All that is random in it comes from `key`, so an example is
corrupted in the same way whatever batch, replica, thread or process makes it. No
result is rounded in a way that a compiler may change, as by joining a product and a sum
or by replacing a quotient: it comes from a table, or is exact until it is rounded once.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from aelab.config import FIELDS, Config
from aelab.data.randomness import LEVELS, Key, normal_table, random_bits

_BYTES = 256

# Added to a stream they give others; those of the pipeline are below 2**40.
_NEXT_MEMBER = 1 << 40
_STDDEVS = 1 << 62


def _bits_of(images: tf.Tensor, key: Key) -> tf.Tensor:
    """A random 16-bit number for each value of an image: uint16 [n, H * W * C]."""
    shape = tf.shape(images)
    return random_bits(key, shape[0], tf.reduce_prod(shape[1:]))


# XLA makes one pass of it. No sum or product is rounded twice, so the numbers are those
# of any other way to compute them.
@tf.function(jit_compile=True, autograph=False)
def _add_and_clip(images: tf.Tensor, bits: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    noise = tf.gather(table, tf.cast(bits, tf.int32))
    return tf.clip_by_value(images + tf.reshape(noise, tf.shape(images)), 0.0, 1.0)


# The product of two float32 is exact in float64.
@tf.function(jit_compile=True, autograph=False)
def _scale_add_and_clip(
    images: tf.Tensor, bits: tf.Tensor, table: tf.Tensor, stddevs: tf.Tensor
) -> tf.Tensor:
    noise = tf.cast(tf.gather(table, tf.cast(bits, tf.int32)), tf.float64)
    noise = tf.reshape(noise * tf.cast(stddevs, tf.float64), tf.shape(images))
    noisy = tf.cast(tf.cast(images, tf.float64) + noise, tf.float32)
    return tf.clip_by_value(noisy, 0.0, 1.0)


def gaussian(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Adds Gaussian noise of `noise_stddev` and clips to [0, 1].

    The corruption of the denoising autoencoder's textbook example; denoising
    autoencoders: Vincent et al. 2008. A value of the noise is one of 65,536, see
    `normal_table`: looked up, added and clipped in one pass, they take a quarter of the
    time of `tf.random.stateless_normal`, and no compiler can round them otherwise.

    With `noise_stddev_max` each image has a level of its own, uniform between the two,
    so that one model learns to remove noise of unknown level ("blind" denoising, as
    DnCNN-B of Zhang et al. 2017). It is one of 65,536 as well.
    """
    lowest, highest = config.noise_stddev, config.noise_stddev_max
    if lowest == highest == 0:
        return images
    bits = _bits_of(images, key)
    if highest == 0:
        table = tf.constant(lowest * normal_table(), tf.float32)
        return _add_and_clip(images, bits, table)
    parts = (np.arange(LEVELS) + 0.5) / LEVELS
    levels = tf.constant(lowest + (highest - lowest) * parts, tf.float32)
    drawn = random_bits(key.offset_by(_STDDEVS), tf.shape(images)[0], tf.constant(1))
    stddevs = tf.gather(levels, tf.cast(drawn, tf.int32))
    table = tf.constant(normal_table(), tf.float32)
    return _scale_add_and_clip(images, bits, table, stddevs)


@tf.function(jit_compile=True, autograph=False)
def _replace(
    images: tf.Tensor, bits: tf.Tensor, zeros: tf.Tensor, hits: tf.Tensor
) -> tf.Tensor:
    """0 where the bits are below `zeros`, 1 where they are below `hits` alone."""
    bits = tf.reshape(tf.cast(bits, tf.int32), tf.shape(images))
    return tf.where(bits < zeros, 0.0, tf.where(bits < hits, 1.0, images))


def salt_and_pepper(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Sets each value with probability `salt_and_pepper_rate` to 0 or 1, even chances.

    Each single value alone, so that of a coloured pixel one channel may be hit and
    another not, as `skimage.util.random_noise(mode="s&p")` does it. The rate is rounded
    to a 65,536th.
    """
    hits = round(config.salt_and_pepper_rate * LEVELS)
    bits = _bits_of(images, key)
    return _replace(images, bits, tf.constant(hits // 2), tf.constant(hits))


def masking(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Sets each value with probability `masking_rate` to 0.

    The noise of Vincent et al. 2008, whose "components" of the input are single values
    too: of a coloured pixel one channel may be lost and another not. They draw the same
    number of them in each image; here each value is drawn alone. The rate is rounded to
    a 65,536th.
    """
    hits = tf.constant(round(config.masking_rate * LEVELS))
    return _replace(images, _bits_of(images, key), hits, hits)


@functools.lru_cache(maxsize=4)
def photon_table(peak: float) -> np.ndarray:
    """Distribution functions of photon counts, for 256 intensities.

    Args:
      peak: mean number of photons where an image is 1.

    Returns:
      int32 [256, K] with K a power of two: entry (i, k) is the probability of k photons
      or fewer where an image is i / 255, in 65,536ths; the last column is 65,536.
    """
    counts = np.arange(1 << (int(peak + 6 * math.sqrt(peak)) + 10).bit_length())
    means = peak * np.arange(1, _BYTES)[:, np.newaxis] / (_BYTES - 1)
    log_factorials = np.array([math.lgamma(count + 1) for count in counts])
    chances = np.exp(counts * np.log(means) - means - log_factorials)
    functions = np.rint(np.cumsum(chances, axis=1) * LEVELS)
    no_light = np.full((1, len(counts)), LEVELS)
    return np.concatenate([no_light, functions]).astype(np.int32)


@tf.function(jit_compile=True, autograph=False)
def _count_photons(
    images: tf.Tensor, bits: tf.Tensor, functions: tf.Tensor, shown: tf.Tensor
) -> tf.Tensor:
    """`shown` at the number of entries, of each value's function, up to its bits.

    A binary search without branches, which is faster than `tf.searchsorted`.
    """
    num_counts = functions.shape[1]
    light = tf.cast(tf.round(images * (_BYTES - 1)), tf.int32)
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
    images in low light, as of Makitalo and Foi 2011. x is first rounded to one of 256
    values, those of an 8-bit image. The count is where a 16-bit number falls in the
    distribution function, see `photon_table`.
    """
    functions = photon_table(config.poisson_peak)
    shown = np.minimum(np.arange(functions.shape[1]) / config.poisson_peak, 1.0)
    return _count_photons(
        images,
        _bits_of(images, key),
        tf.constant(functions),
        tf.constant(shown, tf.float32),
    )


def jpeg(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Writes each image as a JPEG file of `jpeg_quality` and reads it again.

    The quality is that of libjpeg, 1 to 100, with chroma at half the resolution. Images
    of three channels are taken as RGB; of others each channel is a gray file of its
    own. Nothing in it is random.
    """
    del key
    pixels = tf.cast(tf.round(images * (_BYTES - 1)), tf.uint8)
    is_rgb = images.shape[-1] == 3
    if not is_rgb:  # [n * C, H, W, 1]
        channels_first = tf.transpose(pixels, [0, 3, 1, 2])
        shape = tf.shape(channels_first)
        pixels = tf.reshape(channels_first, [-1, shape[2], shape[3], 1])

    def through_file(image: tf.Tensor) -> tf.Tensor:
        file = tf.io.encode_jpeg(image, quality=config.jpeg_quality)
        return tf.io.decode_jpeg(file, dct_method="INTEGER_ACCURATE")

    pixels = tf.map_fn(through_file, pixels)
    if not is_rgb:
        pixels = tf.transpose(tf.reshape(pixels, shape), [0, 2, 3, 1])
    values = np.arange(_BYTES) / (_BYTES - 1)
    found = tf.gather(tf.constant(values, tf.float32), tf.cast(pixels, tf.int32))
    return tf.ensure_shape(found, images.shape)


Corruption = Callable[[tf.Tensor, Key, Config], tf.Tensor]
CORRUPTIONS: dict[str, Corruption] = {
    "gaussian": gaussian,
    "salt_and_pepper": salt_and_pepper,
    "masking": masking,
    "poisson": poisson,
    "jpeg": jpeg,
}


def corrupt(images: tf.Tensor, key: Key, config: Config) -> tf.Tensor:
    """Applies the corruptions that `config` names, from left to right.

    Each has a stream of its own, by its place, so that what is random in one tells
    nothing of another, nor of the same one's second use. The first has that of `key`.

    Args:
      images: float32 [n, H, W, C] in [0, 1].
      key: where the randomness comes from.
      config: names the corruptions and their levels.

    Returns:
      float32 [n, H, W, C] in [0, 1].
    """
    for place, name in enumerate(config.corruptions()):
        images = CORRUPTIONS[name](images, key.offset_by(place * _NEXT_MEMBER), config)
    return images


def describe(config: Config) -> str:
    """What `corrupt` does, for people: names with their levels, in order."""
    members = []
    for name in config.corruptions():
        of_it = [n for n, f in FIELDS.items() if f.metadata["level_of"] == name]
        levels = [f"{n} {getattr(config, n)}" for n in of_it if getattr(config, n)]
        if levels:
            members.append(f"{name} ({', '.join(levels)})")
    return ", ".join(members) or "none"
