"""Applies a model to pictures of any size, in tiles that fit into memory."""

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import tensorflow as tf

from aelab.apps.denoising.tiles import crop, cut
from aelab.apps.denoising.transparency import fill_transparent
from aelab.errors import UsageError
from aelab.models import build_model
from aelab.runs.trained_model import TrainedModel

TILE = 1024  # side, in pixels
_CALL_PIXELS = 2**20  # pixels of all images in one call of the model
# Quarter turns, and whether the picture is mirrored before.
SYMMETRIES = tuple(itertools.product(range(4), (False, True)))
_PROBE = 32  # side of the first picture that measures a model's reach, in multiples


class Denoiser:
    """A trained convolutional model, for pictures of any size.

    The model runs on the whole picture. The picture is first extended on all sides by
    its reflection, at least as far as the model sees and to a size that its poolings
    divide. Without this padding, zero-padded convolutions would darken the borders. A
    larger picture is cut into tiles, which overlap so much that the result is the same
    up to rounding.

    The height and width that the model gets are multiples of `multiple`. So are the
    side of a tile and the padding of `margin` pixels, which is at least the distance,
    along an axis, over which an input pixel affects the output.
    """

    def __init__(
        self,
        trained: TrainedModel,
        tile: int = TILE,
        white_level: int | None = None,
        precision: str = "float32",
        ensemble: bool = False,
    ):
        """Builds the trained model again.

        Args:
          trained: the model.
          tile: tiles have at most `tile` x `tile` pixels.
          white_level: what counts as 1 in 16-bit pictures, by default the run's; 0 =
            65535.
          precision: the arithmetic, as in `Config`.
          ensemble: whether to average the outputs for the picture as it is, mirrored,
            and turned, eight in all (Timofte et al. 2016); this takes eight times as
            long.

        Raises:
          UsageError: the model takes pictures of one size only, its reach is too large
            for the tiles, or it does not have 1 or 3 channels.
        """
        _check_fits_pictures(trained)
        self._ensemble = ensemble
        white = trained.config.white_level if white_level is None else white_level
        self.peaks = {"uint8": 255, "uint16": white or 65535, "float32": 1}
        self._channels = trained.image_shape[2]
        self.multiple = trained.autoencoder.size_multiple
        self._tile = tile // self.multiple * self.multiple
        # Stock layers have no kernels with zeros, which make NaN of an infinite pixel.
        probe = _for_any_size(trained, precision="float32", stock_layers=True)
        self.margin = _round_up(self._measure_reach(probe), self.multiple)
        if 2 * self.margin + self.multiple > self._tile:
            raise UsageError(
                f"--model={trained.config.model} can't denoise pictures in tiles of "
                f"{self._tile} pixels: its output depends on pixels too far away"
            )
        model = _for_any_size(trained, precision=precision)
        model.set_weights(trained.autoencoder.model.get_weights())
        self._restore_values = tf.function(
            lambda images: model(images, training=False),
            input_signature=[tf.TensorSpec([None, None, None, self._channels])],
            autograph=False,
        )

    def denoise(self, pixels: np.ndarray) -> np.ndarray:
        """Denoises a picture [H, W, C], uint8, uint16, or float32 with 1 as white.

        C is 1 for gray, 3 for color, one more with alpha, which is kept. Transparent
        pixels keep their colors, and do not affect others. A model of one channel is
        applied to each channel separately. A model of three channels gets a gray
        picture as three equal channels, and its outputs are averaged. The result
        has the same type and shape; integers are clipped and rounded, floats are not.
        """
        colors = pixels.shape[2] - (pixels.shape[2] % 2 == 0)
        has_alpha = colors < pixels.shape[2]
        seen = fill_transparent(pixels)[..., :colors] if has_alpha else pixels
        output = self._averaged(seen) if self._ensemble else self._output(seen)
        if has_alpha:
            alpha = pixels[..., -1:]
            output = np.where(alpha > 0, output, pixels[..., :colors])
            output = np.concatenate([output, alpha], axis=2)
        return output

    def _averaged(self, pixels: np.ndarray) -> np.ndarray:
        """The mean output for a picture [H, W, 1 or 3] in all symmetries."""
        values = self._to_unit(pixels)
        total = np.zeros_like(values)
        for turns, mirrored in SYMMETRIES:
            seen = np.rot90(values[:, ::-1] if mirrored else values, turns)
            output = np.rot90(self._output(seen), -turns)
            total += output[:, ::-1] if mirrored else output
        del values, seen, output  # memory
        total /= np.float32(len(SYMMETRIES))
        return self._from_unit(total, pixels.dtype)

    def _output(self, pixels: np.ndarray) -> np.ndarray:
        """The output for a picture [H, W, 1 or 3], tile by tile; of the same type."""
        result = np.empty_like(pixels, order="C")
        sizes = pixels.shape[:2]
        extended = [_round_up(n + 2 * self.margin, self.multiple) for n in sizes]
        tile = min(extended[0], self._tile), min(extended[1], self._tile)
        axes = zip(sizes, extended, tile, strict=True)
        windows = list(itertools.product(*(cut(*axis, self.margin) for axis in axes)))
        images = pixels.shape[2] if self._channels == 1 else 1
        together = max(1, _CALL_PIXELS // (tile[0] * tile[1] * images))
        for start in range(0, len(windows), together):
            group = windows[start : start + together]
            tiles = [crop(pixels, window, tile) for window in group]
            outputs = self._restore(np.stack(tiles))
            for (y, x), output in zip(group, outputs, strict=True):
                rows = slice(y.first - y.start, y.end - y.start)
                cols = slice(x.first - x.start, x.end - x.start)
                result[y.first : y.end, x.first : x.end] = output[rows, cols]
        return result

    def _restore(self, tiles: np.ndarray) -> np.ndarray:
        """Applies the model to tiles [n, h, w, 1 or 3]; returns the same type."""
        n, height, width, colors = tiles.shape
        values = self._to_unit(tiles)
        if self._channels == 1:
            values = np.moveaxis(values, 3, 1).reshape(n * colors, height, width, 1)
        elif colors == 1:
            values = np.repeat(values, 3, axis=3)
        outputs = self._restore_values(values).numpy()
        if self._channels == 1:
            outputs = np.moveaxis(outputs.reshape(n, colors, height, width), 1, 3)
        elif colors == 1:
            outputs = outputs.mean(axis=3, keepdims=True)
        return self._from_unit(outputs, tiles.dtype)

    def _to_unit(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels as float32 with 1 as white."""
        return pixels.astype(np.float32) / np.float32(self.peaks[pixels.dtype.name])

    def _from_unit(self, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """The opposite of `_to_unit`; integers are clipped and rounded."""
        if np.issubdtype(dtype, np.integer):
            peak = np.float32(self.peaks[dtype.name])
            values = np.rint(np.clip(values, 0, 1) * peak)
        return values.astype(dtype, copy=False)

    def _measure_reach(self, model: Any) -> int:
        """The distance, in pixels on an axis, over which a pixel affects the output.

        If it reaches further than half a tile, the result is the side of a tile.
        """
        # Positive kernels and the biases' initial values cancel and block nothing.
        for variable in model.trainable_variables:
            if len(variable.shape) > 1:
                share = variable.shape[-1] / math.prod(variable.shape)
                variable.assign(np.full(variable.shape, share))
        size = _PROBE * self.multiple
        while True:
            with tf.device("CPU:0"):  # where equal pixels stay exactly equal
                # White, too: relu blocks the negative values of centered black ones.
                reach = max(self._reach_within(model, size, gray) for gray in (0, 1))
            if reach < size // 2 - self.multiple:
                return reach
            # The effect came to the border of the probe, and may go on.
            if size >= self._tile:
                return self._tile
            size *= 2

    def _reach_within(self, model: Any, size: int, gray: float) -> int:
        """The reach of a pixel in the middle of a plain picture of `size` x `size`."""
        plain = np.full([1, size, size, self._channels], gray, np.float32)
        expected, reach = model(plain).numpy()[0], 0
        # An infinite pixel, which no layer weakens, at each position in the poolings.
        for place in range(size // 2, size // 2 + self.multiple):
            bright = plain.copy()
            bright[0, place, place] = np.inf
            changed = model(bright).numpy()[0] != expected
            reach = max([reach, *np.abs(np.argwhere(changed)[:, :2] - place).flat])
        return int(reach)


def _check_fits_pictures(trained: TrainedModel) -> None:
    """Raises UsageError unless the model takes gray or color pictures of any size."""
    height, width, channels = trained.image_shape
    if channels not in (1, 3):
        raise UsageError(
            f"the run's images have {channels} channels; only a model of 1 "
            "(gray) or 3 (color) channels can denoise pictures"
        )
    if not trained.autoencoder.size_multiple:
        raise UsageError(
            f"--model={trained.config.model}, which the run trained, only takes "
            f"pictures of {width} x {height} pixels; a convolutional model, for "
            "example --model=conv, takes any size"
        )


def _for_any_size(trained: TrainedModel, **choices: Any) -> Any:
    """The network for pictures of any size, with initial weights.

    `choices` replace fields of the run's configuration.
    """
    config = dataclasses.replace(trained.config, **choices)
    return build_model(config, (None, None, trained.image_shape[2])).model


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
