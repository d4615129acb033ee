"""The names that a run may choose from, and the function behind each.

One line per name. A function is written `"module:function"` and is imported when a run
uses it, so that this module needs the standard library only. The choices in `Config`
are the keys of these tables.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from aelab.errors import UsageError


class SourceEntry(NamedTuple):
    """An image source.

    Attributes:
      function: `(config, split) -> aelab.data.sources.Source`.
      reads_data_dir: True if it needs `--data_dir`.
    """

    function: str
    reads_data_dir: bool = False


# `(config, image_shape) -> aelab.models.Autoencoder`
MODELS = {
    "dense": "aelab.models.dense:build_dense",
    "conv": "aelab.models.conv:build_conv",
    "unet": "aelab.models.unet:build_unet",
    "resunet": "aelab.models.resunet:build_resunet",
    "codec": "aelab.models.codec:build_codec",
}

# Models that were measured to train faster with XLA in float16 on a CPU (BUILD.md).
XLA_FOR_FLOAT16 = ("dense", "conv", "unet")

SOURCES = {
    "synthetic": SourceEntry("aelab.data.sources:open_synthetic"),
    "fashion_mnist": SourceEntry("aelab.data.official_files:open_fashion_mnist"),
    "idx": SourceEntry("aelab.data.official_files:open_idx", reads_data_dir=True),
    "images": SourceEntry(
        "aelab.data.open_folder:open_image_folder", reads_data_dir=True
    ),
}

# `(images, key, config) -> images`: float32 [n, H, W, C] in [0, 1]
CORRUPTIONS = {
    "none": "aelab.data.corruptions:none",
    "gaussian": "aelab.data.gaussian:gaussian",
    "salt_and_pepper": "aelab.data.corruptions:salt_and_pepper",
    "masking": "aelab.data.corruptions:masking",
    "poisson": "aelab.data.corruptions:poisson",
    "jpeg": "aelab.data.corruptions:jpeg",
}

# `(images, key, config) -> images`. Each is called for every training batch, in this
# order, and returns the images unchanged if its field is off.
AUGMENTATIONS = {
    "move": "aelab.data.augment:move",
    "turn": "aelab.data.augment:turn",
}

# `(clean, output, config) -> float32 [n]`
LOSSES = {
    "bce": "aelab.training.losses:bce",
    "mse": "aelab.training.losses:mse",
    "rmse": "aelab.training.losses:rmse",
    "log_mse": "aelab.training.losses:log_mse",
}

# `(result, config) -> float32 [n]`, where `result` is the batch's `Forward`; by the
# field that holds its weight. A penalty of weight 0 is not computed.
PENALTIES = {
    "l1_activity": "aelab.training.losses:l1_norm",
}

# `(sample) -> {row: float32 [n, H, W, C] in [0, 1]}`, by the tag of the picture.
PANELS = {
    "panel": "aelab.training.samples:reconstructions",
}

# Subclasses of `keras.Optimizer`. Left out: wrappers (LossScaleOptimizer,
# MultiOptimizer), and ScheduleFreeAdamW, whose weights must be exchanged for others
# before each evaluation.
OPTIMIZERS = {
    "adadelta": "keras.optimizers:Adadelta",
    "adafactor": "keras.optimizers:Adafactor",
    "adagrad": "keras.optimizers:Adagrad",
    "adam": "keras.optimizers:Adam",
    "adamax": "keras.optimizers:Adamax",
    "adamw": "keras.optimizers:AdamW",
    "ftrl": "keras.optimizers:Ftrl",
    "lamb": "keras.optimizers:Lamb",
    "lion": "keras.optimizers:Lion",
    "muon": "keras.optimizers:Muon",
    "nadam": "keras.optimizers:Nadam",
    "rmsprop": "keras.optimizers:RMSprop",
    "sgd": "keras.optimizers:SGD",
}


@functools.cache
def load(target: str, flag: str) -> Callable[..., Any]:
    """The function that `target`, `"module:function"`, names.

    Args:
      target: what to import.
      flag: the flag and its value, for the message.

    Raises:
      UsageError: there is no such module or function.
    """
    module, _, name = target.partition(":")
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise UsageError(
            f"{flag}: there is no module {error.name}; modules are looked for in the "
            "current folder and in the Python environment"
        ) from None
    if not hasattr(imported, name):
        raise UsageError(f"{flag}: {module} has no {name}")
    function = getattr(imported, name)
    if not callable(function):
        raise UsageError(f"{flag}: {name} in {module} is not a function")
    found: Callable[..., Any] = function
    return found
