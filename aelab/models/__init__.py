"""The networks, by name: one file each, one line here."""

from collections.abc import Callable
from typing import Any

import keras

from aelab.config import Config
from aelab.models import conv, unet
from aelab.models.codec import build_codec
from aelab.models.common import ImageShape
from aelab.models.dense import build_dense

MODELS: dict[str, Callable[[Config, ImageShape], Any]] = {
    "dense": build_dense,
    "conv": conv.build_conv,
    "unet": unet.build_unet,
    "codec": build_codec,
}

# Of the networks that take images of any size: what height and width are multiples of.
SIZE_MULTIPLES = {"conv": conv.MULTIPLE, "unet": unet.MULTIPLE}


def build_model(config: Config, image_shape: ImageShape) -> Any:
    """The network that `config` names, with weights that follow from its seed.

    Args:
      config: names the model and its sizes.
      image_shape: (height, width, channels) of the images. Height and width may be
        None, for images of any size, where `SIZE_MULTIPLES` has the model.

    Returns:
      A functional `keras.Model` from float32 [n, H, W, C] in [0, 1] to the same, with
      two sub-models, `encoder` and `decoder`. The code between them is a tensor, or a
      list of tensors. A model that rounds its code has a layer `prior` as well, from
      codes to the bytes that they take. The last operation is the sigmoid, in float32,
      so that the cross-entropy is computed from logits when compiled. With mixed
      precision (Micikevicius et al. 2018) the layers in front of it compute in 16 bits,
      and weights are float32.

    Raises:
      UsageError: the model can't take images of this shape.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        return MODELS[config.model](config, image_shape)
    finally:
        keras.config.set_dtype_policy(before)
