"""Convolutions with what stands around them, each equal to stock layers and faster.

Each class is a `keras.layers.Conv2D` with the variables of one, under the same names,
and takes the place of that layer and a neighbour of its own. `--stock_layers=true`
builds the stock layers instead. So does the export: a model of these layers is not to
be saved with Keras, which could not open it without aelab.

What is equal: values and gradients, but for rounding, as sums are taken in another
order. Where two of four pooled values are equal only after rounding, the gradient may
go to the other one.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

_FEW_CHANNELS = 8
_FLAGS = ("avx512_bf16", "amx_bf16")


class SameConv2D(keras.layers.Conv2D):
    """`Conv2D`, 'same'.

    In bfloat16 on a processor without arithmetic for it, products of the bfloat16
    factors are summed in float32 and the sum is rounded to bfloat16, as processors that
    have it do; TensorFlow's own way there takes twenty times as long.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        activation: str,
        name: str,
        strides: int = 1,
        kernel_initializer: Any = "glorot_uniform",
        dtype: Any = None,
    ):
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding="same",
            activation=activation,
            kernel_initializer=kernel_initializer,
            name=name,
            dtype=dtype,
        )

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The convolution [n, H / s, W / s, F] of [n, H, W, C], without bias."""
        convolve = functools.partial(conv2d, strides=self.strides)
        return _rounded(convolve, inputs, kernel)


class Conv2DMaxPool(SameConv2D):
    """`Conv2D`, 'same', with a monotonic activation, then `MaxPooling2D(2)`.

    As activation(max_pool(x) + b) = max_pool(activation(x + b)), bias and activation
    come after the pooling and touch a quarter of the values. Height and width must be
    even.
    """

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The pooled convolution [n, H / 2, W / 2, F] of [n, H, W, C], without bias."""
        return _rounded(_conv2d_max_pool, inputs, kernel)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """(n, H / 2, W / 2, F) from (n, H, W, C)."""
        n, height, width, _ = input_shape
        return n, height and height // 2, width and width // 2, self.filters


class UpSampleConv2D(SameConv2D):
    """`UpSampling2D(2)`, nearest, then `Conv2D` of 3x3, 'same', with an activation."""

    def __init__(self, filters: int, activation: str, name: str, **arguments: Any):
        super().__init__(filters, 3, activation, name, **arguments)

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The convolution [n, 2H, 2W, F] of [n, H, W, C] upsampled, without bias."""
        return _rounded(up_sample_conv2d, inputs, kernel)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """(n, 2H, 2W, F) from (n, H, W, C)."""
        n, height, width, _ = input_shape
        return n, height and 2 * height, width and 2 * width, self.filters


def conv2d(images: tf.Tensor, kernel: tf.Tensor, strides: Any = 1) -> tf.Tensor:
    """'same' convolution of [n, H, W, C] with [k, k, C, F]: [n, H / s, W / s, F]."""
    return tf.nn.conv2d(images, kernel, strides, "SAME")


def _conv2d_max_pool(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    return tf.nn.max_pool2d(conv2d(images, kernel), 2, 2, "VALID")


def up_sample_conv2d(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Nearest upsampling by 2 and a 'same' convolution of 3x3, in one.

    Each pixel stands for 2x2 of the upsampled image, so together they are a transposed
    convolution of stride 2, whose 4x4 kernel is the sum of four shifted copies of the
    3x3 one (mirrored, as a transposed convolution mirrors it): 16 products for 4 values
    instead of 36, and nothing upsampled is ever stored.

    Args:
      images: float [n, H, W, C].
      kernel: the same type [3, 3, C, F].

    Returns:
      The same type [n, 2H, 2W, F].
    """
    shifted = [
        tf.pad(kernel, [[i, 1 - i], [j, 1 - j], [0, 0], [0, 0]])
        for i in (0, 1)
        for j in (0, 1)
    ]
    wide = tf.transpose(tf.reverse(tf.add_n(shifted), [0, 1]), [0, 1, 3, 2])
    if kernel.shape[-1] < _FEW_CHANNELS:
        outputs: tf.Tensor = _transposed_to_few_channels(images, wide)
        return outputs
    n, height, width, _ = tf.unstack(tf.shape(images))
    shape = tf.stack([n, 2 * height, 2 * width, kernel.shape[-1]])
    outputs = tf.nn.conv2d_transpose(images, wide, shape, 2, "SAME")
    outputs.set_shape([images.shape[0], *_doubled(images), kernel.shape[-1]])
    return outputs


def _doubled(images: tf.Tensor) -> list[int | None]:
    return [size and 2 * size for size in images.shape[1:3]]


@tf.custom_gradient
def _transposed_to_few_channels(
    images: tf.Tensor, kernel: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    """Transposed convolution of stride 2 of [n, H, W, C] with [4, 4, F, C], F small.

    Forward it is a sub-pixel convolution (Shi et al. 2016): around each corner of four
    pixels lie four values of the output, a 2x2 kernel for each, so that there are 4 F
    channels, which the fast kernels like better than F. Backward the two gradients of a
    transposed convolution are ordinary convolutions, and fast as they are.
    """
    few, channels = kernel.shape[2:]
    # From [row of corner, row of value, column of corner, column of value, ...]: a
    # value before the corner takes elements 2 and 0 of the kernel, one after it 3, 1.
    corners = tf.reverse(tf.reshape(kernel, [2, 2, 2, 2, few, channels]), [0, 2])
    corners = tf.transpose(corners, [0, 2, 5, 1, 3, 4])
    corners = tf.reshape(corners, [2, 2, channels, 4 * few])
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    values = tf.nn.depth_to_space(tf.nn.conv2d(padded, corners, 1, "VALID"), 2)

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        of_kernel = tf.raw_ops.Conv2DBackpropFilter(
            input=upstream,
            filter_sizes=kernel.shape,
            out_backprop=images,
            strides=[1, 2, 2, 1],
            padding="SAME",
        )
        return tf.nn.conv2d(upstream, kernel, 2, "SAME"), of_kernel

    return values[:, 1:-1, 1:-1], gradient


def _rounded(
    operation: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    inputs: tf.Tensor,
    kernel: tf.Tensor,
) -> tf.Tensor:
    """`operation` in the type of `inputs`, by way of float32 where that is faster."""
    if inputs.dtype != tf.bfloat16 or _has_bfloat16():
        return operation(inputs, kernel)
    wide = operation(tf.cast(inputs, tf.float32), tf.cast(kernel, tf.float32))
    return tf.cast(wide, tf.bfloat16)


@functools.cache
def _has_bfloat16() -> bool:
    """Whether there is arithmetic for bfloat16: a GPU, or the processor's own."""
    if tf.config.get_visible_devices("GPU"):
        return True
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            words = set(file.read().split())
    except OSError:
        return False
    return any(flag in words for flag in _FLAGS)
