"""test_step.py has the training loop; this has its input."""

import numpy as np
from test_step import CONFIG, new_state, source, steps

from aelab.data.pipeline import make_train_dataset
from aelab.training.loops import build_train_loop, training_batches


def test_batches_begin_at_the_step_of_the_state():
    state = new_state()
    batches = training_batches(state, CONFIG, source())
    assert build_train_loop(state, CONFIG)(batches, steps(3))
    found = next(training_batches(state, CONFIG, source()))
    expected = next(iter(make_train_dataset(source(), CONFIG, 3)))
    for mine, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, right)


def test_a_model_gets_the_dither_that_it_needs():
    config = type(CONFIG)(model="codec", encoding_dim=5, batch_size=8)
    batch = next(training_batches(new_state(config), config, source()))
    assert batch[2].shape == (8, 5)
