"""Facts about the registered models, computed once, for parametrized tests."""

from aelab.config import Config
from aelab.config.registry import MODELS
from aelab.models import build_model

# The networks that take images of any size, with the divisor of height and width.
SIZE_MULTIPLES = {
    name: multiple
    for name in MODELS
    if (multiple := build_model(Config(model=name), (28, 28, 1)).size_multiple)
}
