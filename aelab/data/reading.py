"""Reads the images of a source as tensors, within a dataset or outside."""

import tensorflow as tf

from aelab.data.pixels import unit_tensor
from aelab.data.randomness import Key, random_bits
from aelab.data.sources import ArraySource, PictureSource, Source
from aelab.errors import ImageError


def read_images(
    source: Source, indices: tf.Tensor, crop_key: Key | None = None
) -> tf.Tensor:
    """The images at `indices`, int64 [n]: float32 [n, H, W, C] in [0, 1].

    For images in memory no Python code runs. Other sources are called once per batch,
    from several threads. `crop_key` selects the crops of a source that has them.
    Without it each image is requested once: the rows that pad an evaluation's last
    batch are copies.
    """
    if isinstance(source, ArraySource):
        images = tf.gather(source.tensor(), indices)
    elif crop_key is not None and hasattr(source, "crops"):
        inputs = [indices, crop_places(crop_key, indices)]
        images = tf.numpy_function(source.crops, inputs, source.dtype, stateful=False)
    else:
        different, rows = tf.unique(indices)
        images = tf.numpy_function(
            source.read, [different], source.dtype, stateful=False
        )
        images = tf.gather(images, rows)
    images.set_shape([indices.shape[0], *source.image_shape])
    return unit_tensor(images)


def read_picture(source: PictureSource, index: tf.Tensor) -> tf.Tensor:
    """The whole picture at `index`, an int64 scalar: float32 [1, H, W, C] in [0, 1]."""
    picture = tf.numpy_function(source.picture, [index], source.dtype, stateful=False)
    picture.set_shape([None, None, source.image_shape[2]])
    return unit_tensor(picture[tf.newaxis])


def crop_places(key: Key, indices: tf.Tensor) -> tf.Tensor:
    """Random positions of crops: uint32 [n, 2]."""
    rows = tf.shape(indices)[0]
    bits = tf.reshape(random_bits(key, rows, tf.constant(4)), [rows, 2, 2])
    return tf.bitcast(bits, tf.uint32)


def image_error(error: tf.errors.OpError) -> str:
    """The `ImageError` message within a TensorFlow error; "" if there is none."""
    _, _, rest = str(error.message).partition(f"{ImageError.__name__}: ")
    return rest.partition("\n")[0]
