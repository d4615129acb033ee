"""The residual U-Net: a denoiser of photographs."""

import functools
from typing import Any

import keras

from aelab.config import Config
from aelab.errors import UsageError
from aelab.models.common import Autoencoder, ImageShape, Layers, check_sizes, compose

_SIZE_MULTIPLE = 8  # halved three times
_STAGES = 3
_BLOCKS = 2  # residual blocks in each stage, on the way down and on the way up
_CONTRAST = 8.0  # how much a network for a range of levels scales images
_LEVELS = 2  # maps of the noise's level
_LEVEL_WINDOW = 9  # blocks of 8x8 pixels, on each side
# Variances: squares of about a quarter of a gray level of 255, and of five.
_NO_NOISE = 1e-6
_WEAK_NOISE = 4e-4
_TINY = 1e-6


def build_resunet(config: Config, image_shape: ImageShape) -> Autoencoder:
    """Builds a U-Net that adds a correction to its input, except for Noise2Void.

        images -> conv 6x6, stride 2 -> blocks ---------- skip ----------> + -> blocks
                  -> conv 2x2, stride 2 -> blocks --- skip ---> + -> blocks -> up ---^
                  -> conv 2x2, stride 2 -> blocks -> up -------^
        images + (... -> transposed conv 6x6, stride 2)

    The network gives the negative noise (Zhang et al. 2017), without an activation at
    its end, so values may lie outside [0, 1]. Nothing runs at the full size of the
    image, as in FFDNet (Zhang et al. 2018): a convolution 6x6 of stride 2 equals their
    pixel unshuffle and a convolution 3x3. A block is x + conv(relu(conv(x))) with 3x3
    kernels, as in DRUNet (Zhang et al. 2021); "up" is a transposed convolution 2x2 of
    stride 2. With C = `filters`, the stages have C, 2 C and 4 C channels at a half, a
    quarter and an eighth of the size.

    The last convolution of each block begins as zeros, and so does the correction: the
    untrained network returns its input (as in Fixup, Zhang et al. 2019). Without this,
    more than half of the relu units at an eighth of the size soon are always 0.

    For Noise2Void, the network gives the clean image itself (as in N2V2, Hoeck et al.
    2022). At a masked pixel the input holds nothing of the pixel's own noise. So
    training never shows how to subtract that noise, and with the sum much of it would
    stay in the pixels that are not masked.

    A network for a range of noise levels also estimates the level, see `_stem`.

    The encoder returns everything that the decoder needs: [n, H/8, W/8, 4 C],
    [n, H/4, W/4, 2 C], [n, H/2, W/2, C] and, if they are added, the images. Together
    they hold more numbers than the image: this network denoises and does not compress.

    Raises:
      UsageError: height or width is not a multiple of 8, or there are too few filters
        for the maps.
    """
    check_sizes(image_shape, "resunet", _SIZE_MULTIPLE)
    layers = Layers(config)
    adds_images = config.supervision != "noise2void"
    sees_levels = config.noise_stddev_max > 0
    encoder = _build_encoder(
        layers, image_shape, config.filters, adds_images, sees_levels
    )
    decoder = _build_decoder(layers, encoder.output_shape, image_shape[2], sees_levels)
    parts = {"size_multiple": _SIZE_MULTIPLE, "is_bounded": False}
    return compose(encoder, decoder, image_shape, "resunet", **parts)


def _build_encoder(
    layers: Layers,
    image_shape: ImageShape,
    filters: int,
    adds_images: bool,
    sees_levels: bool,
) -> Any:
    images = keras.Input(image_shape)
    x = _stem(layers, images, filters, sees_levels)
    outputs = [_blocks(layers, "down1", x)]
    if adds_images:
        outputs.append(images)
    for stage in range(2, _STAGES + 1):
        filters *= 2
        x = layers.conv(f"down{stage}", filters, size=2, strides=2)(outputs[0])
        outputs.insert(0, _blocks(layers, f"down{stage}", x))
    return keras.Model(images, outputs, name="encoder")


def _stem(layers: Layers, images: Any, filters: int, sees_levels: bool) -> Any:
    """The first layer: [n, H / 2, W / 2, filters] of [n, H, W, C].

    With `sees_levels`, two maps of the noise's level take the place of two filters.
    FFDNet gets such a map as an input; this network estimates it. It also works on
    8 (image - 1/2), and its correction is divided by 8: its values are then about 1, so
    that a step of Adam changes a bias only a little. Without both, half of the relu
    units at an eighth of the size are soon always 0.
    """
    if not sees_levels:
        return layers.conv("stem", filters, size=6, strides=2)(images)
    if filters <= _LEVELS:
        raise UsageError(
            f"--filters={filters} must be above {_LEVELS} with --noise_stddev_max: "
            "maps of the level take the place of two filters"
        )
    seen = _CONTRAST * (images - 0.5)
    x = layers.conv("stem", filters - _LEVELS, size=6, strides=2)(seen)
    levels = _CONTRAST * _noise_levels(images)
    return keras.layers.Concatenate(name="levels")([x, levels])


def _noise_levels(images: Any) -> Any:
    """Two estimates of the noise's standard deviation: [n, H / 2, W / 2, 2].

    The diagonal difference (a - b - c + d) / 2 of 2x2 pixels with white noise has the
    standard deviation of the noise, and little of the picture. One estimate is its root
    mean square in blocks of 8x8 pixels. For the other, the mean squares of 9x9 blocks
    are averaged with weights that fall with the mean square, so smooth blocks count
    most. On pure white noise, this estimate is slightly low.

    2x2 pixels without noise, as in overexposed or transparent areas, count in neither:
    otherwise the noise next to such an area would seem to be weak, and would stay.
    """
    rows = images[:, ::2] - images[:, 1::2]
    differences = (rows[:, :, ::2] - rows[:, :, 1::2]) / 2
    squares = keras.ops.mean(keras.ops.square(differences), axis=3, keepdims=True)
    pool = functools.partial(keras.layers.AveragePooling2D, dtype="float32")
    window = pool(_LEVEL_WINDOW, 1, padding="same")
    noisy = keras.ops.cast(squares > _NO_NOISE, "float32")
    share = pool(4)(noisy)
    sums = pool(4)(noisy * squares)
    blocks = sums / (share + _TINY)
    weights = share / keras.ops.square(blocks + _WEAK_NOISE)
    smooth = window(weights * blocks) / (window(weights) + _TINY)
    # Where a block has few noisy pixels, the blocks around it help out.
    local = (sums + smooth / 16) / (share + 1 / 16)
    both = keras.ops.sqrt(keras.ops.concatenate([local, smooth], axis=3) + _TINY**2)
    return keras.layers.UpSampling2D(4, dtype="float32")(both)


def _build_decoder(
    layers: Layers, shapes: Any, channels: int, sees_levels: bool
) -> Any:
    inputs = [keras.Input(shape[1:]) for shape in shapes]
    x, skips, images = inputs[0], inputs[1:_STAGES], inputs[_STAGES:]
    for stage, skip in zip(range(_STAGES - 1, 0, -1), skips, strict=True):
        x = layers.conv_transpose(f"up{stage}", skip.shape[-1], size=2)(x)
        x = layers.add(f"up{stage}_joined")([x, skip])
        x = _blocks(layers, f"up{stage}", x)
    name = "correction" if images else "clean"
    x = layers.conv_transpose(name, channels, size=6, is_zero=bool(images))(x)
    if sees_levels:
        x = x / _CONTRAST
    if images:
        output = keras.layers.Add(dtype="float32", name="output")([*images, x])
    else:
        output = keras.layers.Activation("linear", dtype="float32", name="output")(x)
    return keras.Model(inputs, output, name="decoder")


def _blocks(layers: Layers, name: str, x: Any) -> Any:
    """Residual blocks: [n, H, W, C] to the same shape."""
    for number in range(1, _BLOCKS + 1):
        block = f"{name}_block{number}"
        y = layers.conv(f"{block}_conv1", x.shape[-1], "relu")(x)
        y = layers.conv(f"{block}_conv2", x.shape[-1], is_zero=True)(y)
        x = layers.add(block)([x, y])
    return x
