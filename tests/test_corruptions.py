import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from aelab.config import FIELDS, Config
from aelab.corruptions import CORRUPTIONS, Key, gaussian, normal

CONFIG = Config(noise_stddev=0.5)


def key(stream=7, first_example=0):
    return Key(tf.constant(stream, tf.int64), tf.constant(first_example, tf.int64))


def gray(count, shape=(28, 28, 1)):
    return tf.fill([count, *shape], 0.5)


def test_registry_holds_what_config_offers():
    assert set(CORRUPTIONS) == set(FIELDS["corruption"].metadata["choices"])


def test_normal_has_the_moments_of_a_standard_normal():
    values = normal(key(), tf.constant([2000, 28, 28, 1])).numpy().astype(np.float64)
    assert abs(values.mean()) < 5 / np.sqrt(values.size)
    assert abs(values.std() - 1) < 5 / np.sqrt(2 * values.size)
    assert abs((values**4).mean() - 3) < 0.05
    tail = (np.abs(values) > 1.959964).mean()
    assert abs(tail - 0.05) < 0.001


@pytest.mark.parametrize("shape", [(28, 28, 1), (5, 7, 3), (1, 1, 1)])
@pytest.mark.parametrize(("first", "count"), [(0, 40), (3, 5), (39, 1), (16, 16)])
def test_any_run_of_examples_is_a_slice_of_the_whole(shape, first, count):
    whole = normal(key(), tf.constant([40, *shape]))
    part = normal(key(first_example=first), tf.constant([count, *shape]))
    np.testing.assert_array_equal(part, whole[first : first + count])


def test_slices_agree_where_tensorflow_uses_several_threads():
    whole = normal(key(), tf.constant([6000, 28, 28, 1]))
    part = normal(key(first_example=5000), tf.constant([1000, 28, 28, 1]))
    np.testing.assert_array_equal(part, whole[5000:])


def test_far_examples_are_reached_without_counting_up_to_them():
    far = 10**15
    whole = normal(key(first_example=far), tf.constant([8, 28, 28, 1]))
    part = normal(key(first_example=far + 3), tf.constant([2, 28, 28, 1]))
    np.testing.assert_array_equal(part, whole[3:5])


@pytest.mark.parametrize("other", [key(stream=8), key(first_example=10)])
def test_other_streams_and_examples_have_other_noise(other):
    shape = tf.constant([10, 28, 28, 1])
    one, two = normal(key(), shape).numpy(), normal(other, shape).numpy()
    assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_eager_compiled_and_inside_a_dataset_are_equal(name):
    images, corrupt = gray(6), CORRUPTIONS[name]
    eager = corrupt(images, key(), CONFIG)
    compiled = tf.function(lambda x: corrupt(x, key(), CONFIG))(images)
    dataset = tf.data.Dataset.from_tensors(images).map(
        lambda x: corrupt(x, key(), CONFIG)
    )
    np.testing.assert_array_equal(compiled, eager)
    np.testing.assert_array_equal(next(iter(dataset)), eager)
    assert eager.dtype == tf.float32
    assert eager.shape == images.shape


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_result_stays_in_range_and_differs_from_the_input(name):
    result = CORRUPTIONS[name](gray(6), key(), CONFIG).numpy()
    assert result.min() >= 0
    assert result.max() <= 1
    assert np.abs(result - 0.5).mean() > 0.1


def test_gaussian_is_the_clipped_sum():
    images = gray(10)
    noise = normal(key(), tf.shape(images)).numpy()
    expected = np.clip(images.numpy() + np.float32(0.5) * noise, 0, 1)
    np.testing.assert_allclose(gaussian(images, key(), CONFIG), expected, rtol=1e-6)


def test_gaussian_of_no_strength_is_the_image_itself():
    config = dataclasses.replace(CONFIG, noise_stddev=0.0)
    np.testing.assert_array_equal(gaussian(gray(3), key(), config), gray(3))
