"""Convolutions fused with a neighboring layer: equal to the stock pair, and faster.

Each convolution is a `keras.layers.Conv2D` with the same variables under the same
names. It replaces that layer and one neighbor. `--stock_layers` builds the stock layers
instead. So does the export, because Keras could not open a file of these layers without
aelab.

Values and gradients are equal up to rounding: sums are taken in another order. Where
two of four pooled values are equal only after rounding, the gradient may go to the
other one.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from aelab.system.machine import cpu_instructions

_FEW_CHANNELS = 8


class SameConv2D(keras.layers.Conv2D):
    """`Conv2D` with 'same' padding.

    On a processor without bfloat16 arithmetic, products of bfloat16 factors are summed
    in float32 and the sum is rounded to bfloat16, as processors with bfloat16 do.
    TensorFlow's own kernel takes twenty times as long there.
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

    activation(max_pool(x) + b) equals max_pool(activation(x + b)). So bias and
    activation come after the pooling and touch a quarter of the values. Height and
    width must be even.
    """

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The pooled convolution [n, H / 2, W / 2, F] of [n, H, W, C], without bias."""
        return _rounded(_conv2d_max_pool, inputs, kernel)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """(n, H / 2, W / 2, F) from (n, H, W, C)."""
        n, height, width, _ = input_shape
        return n, height and height // 2, width and width // 2, self.filters


class UpSampleConv2D(SameConv2D):
    """`UpSampling2D(2)`, nearest, then a 'same' 3x3 `Conv2D` with an activation."""

    def __init__(self, filters: int, activation: str, name: str, **arguments: Any):
        super().__init__(filters, 3, activation, name, **arguments)

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The convolution [n, 2H, 2W, F] of [n, H, W, C] upsampled, without bias."""
        return _rounded(up_sample_conv2d, inputs, kernel)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """(n, 2H, 2W, F) from (n, H, W, C)."""
        n, height, width, _ = input_shape
        return n, height and 2 * height, width and 2 * width, self.filters


class SameConv2DTranspose(keras.layers.Conv2DTranspose):
    """`Conv2DTranspose` with 'same' padding and stride 2, see `conv2d_transpose`.

    Products of bfloat16 factors are summed as in `SameConv2D`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        activation: str,
        name: str,
        kernel_initializer: Any = "glorot_uniform",
    ):
        super().__init__(
            filters,
            kernel_size,
            strides=2,
            padding="same",
            activation=activation,
            kernel_initializer=kernel_initializer,
            name=name,
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """The transposed convolution [n, 2H, 2W, F] of [n, H, W, C]."""
        outputs = _rounded(conv2d_transpose, inputs, tf.convert_to_tensor(self.kernel))
        return self.activation(tf.nn.bias_add(outputs, self.bias))


class SharedAdd(keras.layers.Add):
    """`Add` with a sum that several layers may read.

    TensorFlow 2.21 tries to fuse a sum with the relu that reads it. If another layer
    reads the sum, it prints "remapper failed" and fuses nothing in the whole graph. It
    leaves the output of `ensure_shape` as it is.
    """

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        """The sum of equal shapes, [n, H, W, C]."""
        total = super().call(inputs)
        return tf.ensure_shape(total, total.shape)


def conv2d(images: tf.Tensor, kernel: tf.Tensor, strides: Any = 1) -> tf.Tensor:
    """'same' convolution of [n, H, W, C] with [k, k, C, F]: [n, H / s, W / s, F]."""
    return tf.nn.conv2d(images, kernel, strides, "SAME")


def _conv2d_max_pool(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    return tf.nn.max_pool2d(conv2d(images, kernel), 2, 2, "VALID")


def up_sample_conv2d(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Nearest upsampling by 2 and a 'same' 3x3 convolution in one operation.

    Each pixel covers 2x2 pixels of the upsampled image. So the two layers are one
    transposed convolution of stride 2. Its 4x4 kernel is the sum of four shifted copies
    of the 3x3 kernel, mirrored because a transposed convolution mirrors it. It takes 16
    products for 4 values instead of 36, and the upsampled image is never stored.

    Args:
      images: float [n, H, W, C].
      kernel: [3, 3, C, F] of the same dtype.

    Returns:
      [n, 2H, 2W, F] of the same dtype.
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
    doubled = [size and 2 * size for size in images.shape[1:3]]
    outputs.set_shape([images.shape[0], *doubled, kernel.shape[-1]])
    return outputs


def conv2d_transpose(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """'same' transposed convolution of stride 2 of [n, H, W, C] with [k, k, F, C].

    A sub-pixel convolution (Shi et al. 2016): a convolution with 4 F channels at the
    small size gives the four values of each pixel. k is twice an odd number m, so each
    of them has an m x m kernel around the pixel: every second row and column of the
    large one, mirrored because a transposed convolution mirrors it.

    Returns:
      [n, 2H, 2W, F] of the same dtype.
    """
    half, (filters, channels) = kernel.shape[0] // 2, kernel.shape[2:]
    phases = tf.reshape(kernel, [half, 2, half, 2, filters, channels])
    phases = tf.transpose(tf.reverse(phases, [0, 2]), [0, 2, 5, 1, 3, 4])
    phases = tf.reshape(phases, [half, half, channels, 4 * filters])
    return tf.nn.depth_to_space(conv2d(images, phases), 2)


@tf.custom_gradient
def _transposed_to_few_channels(
    images: tf.Tensor, kernel: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    """Transposed convolution of stride 2 of [n, H, W, C] with [4, 4, F, C], F small.

    The forward pass is a sub-pixel convolution (Shi et al. 2016). Around each corner of
    four pixels lie four values of the output, with a 2x2 kernel each: 4 F channels,
    which the fast kernels handle better than F. The two gradients of a transposed
    convolution are ordinary convolutions, which are fast already.
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
        """The derivatives by the images and by the kernel."""
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
    """`operation` in the dtype of `inputs`, via float32 where that is faster."""
    if inputs.dtype != tf.bfloat16 or _has_bfloat16():
        return operation(inputs, kernel)
    wide = operation(tf.cast(inputs, tf.float32), tf.cast(kernel, tf.float32))
    return tf.cast(wide, tf.bfloat16)


@functools.cache
def _has_bfloat16() -> bool:
    """True if a GPU or the processor itself has bfloat16 arithmetic."""
    if tf.config.get_visible_devices("GPU"):
        return True
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpu_instructions())
