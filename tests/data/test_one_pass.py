import numpy as np
import pytest
import tensorflow as tf

from aelab.data.one_pass import one_pass


@pytest.mark.parametrize("count", [1, 4])
def test_only_several_images_are_compiled(count):
    """Compiled, the function is traced once, and the numbers are the same."""
    calls = []

    @one_pass
    def half(images, is_negative):
        calls.append(tf.executing_eagerly())
        return -images / 2 if is_negative else images / 2

    images = tf.reshape(tf.range(count * 6, dtype=tf.float32), [count, 2, 3, 1])
    for is_negative, sign in ((False, 1), (True, -1), (True, -1)):
        np.testing.assert_array_equal(half(images, is_negative), sign * images / 2)
    assert calls == ([True] * 3 if count == 1 else [False] * 2)
