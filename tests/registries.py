"""Facts about the registered models, computed once, for parametrized tests."""

import numpy as np

from aelab.config import Config
from aelab.config.registry import MODELS
from aelab.models import build_model

# The networks that take images of any size, with the divisor of height and width.
SIZE_MULTIPLES = {
    name: multiple
    for name in MODELS
    if (multiple := build_model(Config(model=name), (32, 32, 1)).size_multiple)
}
# The networks that end in a sigmoid; the others give values outside [0, 1], too.
BOUNDED = sorted(MODELS.keys() - {"resunet"})


def fill_zeros(model):
    """Gives kernels that begin as zeros small values, the same each time."""
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if len(variable.shape) > 1 and not np.any(variable):
            variable.assign(generator.normal(0, 0.05, variable.shape))
