import numpy as np
import pytest
import tensorflow as tf

from aelab.config import Config
from aelab.training.loss_scale import LossScale


def scale_after(finite, scale=None, good_steps=0):
    """Loss scale and whether training may continue, after the given steps."""
    loss_scale = LossScale(Config(precision="mixed_float16"))
    if scale:
        loss_scale.scale.assign(scale)
    loss_scale.good_steps.assign(good_steps)
    continues = [bool(loss_scale.update(tf.constant(value))) for value in finite]
    return loss_scale, continues


def test_loss_scale_is_halved_and_doubled():
    loss_scale, continues = scale_after([True, False, True, False])
    assert continues == [True] * 4
    assert loss_scale.metrics() == {"loss_scale": 2**13, "skipped_steps": 2}
    assert int(loss_scale.good_steps) == 0
    loss_scale, _ = scale_after([True], good_steps=1998)
    assert (float(loss_scale.scale), int(loss_scale.good_steps)) == (2**15, 1999)
    loss_scale, _ = scale_after([True], good_steps=1999)
    assert (float(loss_scale.scale), int(loss_scale.good_steps)) == (2**16, 0)


def test_loss_scale_has_limits():
    loss_scale, continues = scale_after([False, False], scale=2.0)
    assert continues == [True, False]
    assert float(loss_scale.scale) == 1
    loss_scale, _ = scale_after([True], scale=2.0**24, good_steps=1999)
    assert float(loss_scale.scale) == 2**24


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_only_float16_has_a_loss_scale(precision):
    loss_scale = LossScale(Config(precision=precision))
    loss, gradients = tf.constant(3.0), [tf.constant([1.0, 2.0])]
    assert loss_scale.scaled(loss) is loss
    assert loss_scale.unscaled(gradients) is gradients
    assert loss_scale.update(tf.constant(True))
    assert not loss_scale.update(tf.constant(False))
    assert loss_scale.metrics() == {}


def test_scaling_and_unscaling_is_exact():
    loss_scale = LossScale(Config(precision="mixed_float16"))
    values = tf.constant([1 / 3, -1e-30, 5e4])
    (same,) = loss_scale.unscaled([loss_scale.scaled(values)])
    np.testing.assert_array_equal(same, values)
