"""The order in which training shows the images of a source."""

import tensorflow as tf

from aelab.data.randomness import Key, random_bits

_STREAM = 6 << 32  # of the pipeline's, only the noise of whole pictures has the same
_MAX_SORTED = 1 << 12  # images; from here on the cipher is faster
_WALKED = 1 << 14  # up to here `_encrypt` takes four turns or more


def example_indices(
    first: tf.Tensor | int, count: int, size: int, seed: int, version: int = 2
) -> tf.Tensor:
    """The images that `count` examples show: int64 [count] in [0, size).

    The examples from number `e * size` on are epoch e. They show each image once, in an
    order that is computed from `seed` and e, and never stored. Two epochs, or two
    seeds, have no more batch mates in common than chance gives.

    Args:
      first: number of the first example, an int or an int64 scalar.
      count: number of examples, at least 1.
      size: number of images, from 1 to 2**31 - 1.
      seed: from 0 to 2**31 - 1.
      version: the algorithm, see `--shuffle_version`.
    """
    examples = first + tf.range(count, dtype=tf.int64)
    epochs, positions = examples // size, examples % size
    if version == 1:
        parts = [tf.fill([count], seed), tf.cast(epochs, tf.int32), tf.ones([count])]
        keys = tf.stack([tf.cast(part, tf.int32) for part in parts], axis=1)
        return _encrypt(positions, keys, size - 1, rounds=4)
    key = Key(tf.constant(_STREAM + seed, tf.int64), epochs[0])
    rows = tf.cast(epochs - epochs[0], tf.int32)
    num_epochs = rows[-1] + 1
    order = _sorted_order if size <= _MAX_SORTED else _encrypted_order
    return order(key, num_epochs, rows, positions, size)


def _sorted_order(
    key: Key, num_epochs: tf.Tensor, rows: tf.Tensor, positions: tf.Tensor, size: int
) -> tf.Tensor:
    """Sorts all images of each epoch by random numbers of 64 bits."""
    bits = tf.reshape(random_bits(key, num_epochs, 4 * size), [num_epochs, size, 4])
    orders = tf.reshape(tf.argsort(tf.bitcast(bits, tf.int64), stable=True), [-1])
    places = tf.cast(rows, tf.int64) * size + positions
    return tf.cast(tf.gather(orders, places), tf.int64)


def _encrypted_order(
    key: Key, num_epochs: tf.Tensor, rows: tf.Tensor, positions: tf.Tensor, size: int
) -> tf.Tensor:
    """Rotates the positions of each epoch, and encrypts each of them.

    Both are permutations. The cipher uses only 24 to 48 bits of its key, so the
    rotation makes the repetition of an order less likely.

    `_encrypt` leaves out an index if the largest is a power of 4. So for such a size
    one more index is encrypted, and the position that is mapped to it gets what it is
    mapped to itself.
    """
    bits = tf.reshape(random_bits(key, num_epochs, 8), [num_epochs, 4, 2])
    keys = tf.bitcast(bits, tf.int32)
    shifts = tf.cast(tf.gather(keys[:, 3], rows), tf.int64)
    keys, epoch_keys = tf.gather(keys[:, :3], rows), keys[:, :3]
    positions = (positions + shifts) % size
    is_power_of_4 = (size - 1).bit_count() == 1 and (size - 1).bit_length() % 2 == 1
    if not is_power_of_4:
        return _encrypt(positions, keys, size - 1, 4 if size <= _WALKED else 8)
    images = _encrypt(positions, keys, size, rounds=8)
    extra = _encrypt(tf.fill([num_epochs], size), epoch_keys, size, rounds=8)
    return tf.where(images == size, tf.gather(extra, rows), images)


def _encrypt(
    positions: tf.Tensor, keys: tf.Tensor, largest: int, rounds: int
) -> tf.Tensor:
    """A permutation of the integers from 0 to `largest` for each key, int32 [n, 3].

    The block cipher Simon is a permutation of all integers of an even number of bits.
    It is repeated until the result is at most `largest` (cycle walking). There are at
    least 16 bits, so a small `largest` takes many turns.
    """
    return tf.raw_ops.RandomIndexShuffle(
        index=tf.cast(positions, tf.int64),
        seed=keys,
        max_index=tf.fill(tf.shape(positions), tf.constant(largest, tf.int64)),
        rounds=rounds,
    )
