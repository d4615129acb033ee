import numpy as np
import pytest
import tensorflow as tf

from aelab.data.randomness import Key
from aelab.data.reading import crop_places, image_error, read_images, read_picture
from aelab.errors import ImageError


class Pictures:
    """Three pictures, and crops of them; keeps the places that were asked for."""

    image_shape, dtype = (2, 2, 1), np.dtype(np.uint16)

    def __len__(self):
        return 3

    def picture(self, index):
        return np.full((4, 3 + int(index), 1), 65535 // (1 + int(index)), np.uint16)

    def crops(self, indices, places):
        assert places.dtype == np.uint32 and places.shape == (len(indices), 2)
        self.places = places
        return np.stack([self.picture(i)[:2, :2] for i in indices])


def test_crops_are_asked_for_at_places_of_their_examples():
    pictures, key = Pictures(), Key(tf.constant(7, tf.int64), tf.constant(40, tf.int64))
    indices = tf.constant([2, 0, 2], tf.int64)
    images = read_images(pictures, indices, key)
    np.testing.assert_array_equal(pictures.places, crop_places(key, indices))
    assert len(np.unique(pictures.places)) == 6  # each example has its own
    np.testing.assert_allclose(images[:, 0, 0, 0], [1 / 3, 1, 1 / 3], rtol=1e-6)


def test_a_picture_is_read_whole():
    picture = read_picture(Pictures(), tf.constant(1, tf.int64))
    assert picture.shape == (1, 4, 4, 1) and picture.dtype == tf.float32
    np.testing.assert_allclose(picture, 32767 / 65535, rtol=1e-6)


def test_the_message_of_a_source_is_extracted_from_the_tensorflow_error():
    class Failing(Pictures):
        def read(self, indices):
            raise self.error

    source, messages = Failing(), []
    dataset = tf.data.Dataset.from_tensors(tf.constant([0], tf.int64))
    for source.error in (ImageError("/a b/ä.png: it is gone"), OSError("gone")):
        with pytest.raises(tf.errors.OpError) as caught:
            next(iter(dataset.map(lambda index: read_images(source, index))))
        messages.append(image_error(caught.value))
    assert messages == ["/a b/ä.png: it is gone", ""]
