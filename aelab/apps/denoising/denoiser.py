"""Runs a denoiser over pictures of any size, in tiles that fit into memory."""

import dataclasses
import itertools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from aelab.errors import UsageError
from aelab.models import SIZE_MULTIPLES, build_model
from aelab.runs.trained_model import TrainedModel

TILE = 1024  # pixels a side
_CALL_PIXELS = 2**20  # of all images in one call of the model
_PROBE = 32  # how large the picture is that shows a model's reach, in multiples


class Span(NamedTuple):
    """A tile along one axis, in pixels of the picture.

    Attributes:
      start: where the tile begins; below 0 in front of the picture.
      first: where that part of it begins which is kept.
      end: where that part ends.
    """

    start: int
    first: int
    end: int


def cut(size: int, extended: int, tile: int, margin: int) -> list[Span]:
    """Cuts an axis into tiles of one length, whose kept parts cover the picture once.

    Args:
      size: length of the picture, in pixels.
      extended: its length with what is added at both ends, `margin` in front of it and
        at least that behind it.
      tile: length of a tile, at most `extended`, and more than twice the margin.
      margin: how many pixels at a tile's ends are not kept.

    Returns:
      The tiles. They begin at multiples of `tile - 2 * margin`, counted from the first,
      but for the last one, which ends where the extended axis does.
    """
    starts = [*range(0, extended - tile, tile - 2 * margin), extended - tile]
    borders = [0, *starts[1:], size]
    return [
        Span(start - margin, first, end)
        for start, (first, end) in zip(starts, itertools.pairwise(borders), strict=True)
    ]


class Denoiser:
    """A trained convolutional model, for pictures of any size.

    The result is what the model, in float32, makes of the whole picture, extended on
    all sides by its reflection as far as the model sees, and on to a size that the
    model's poolings divide. Without that, the zeros that convolutions take for what is
    outside would give a picture a dark frame. A larger picture is cut into tiles that
    overlap so far that the result is the same but for rounding.

    Attributes:
      multiple: what height and width must be multiples of for the model.
      margin: how far the picture is extended, in pixels: at least as far as an output
        pixel depends on others, along an axis, and a multiple of `multiple`.
    """

    def __init__(self, trained: TrainedModel, tile: int = TILE):
        """Takes a trained model.

        Args:
          trained: the model, of 1 or 3 channels.
          tile: larger pictures are cut into tiles of this many pixels a side, rounded
            down to a multiple of the model's.

        Raises:
          UsageError: the model takes pictures of one size only, sees too far for its
            tiles, or has another number of channels.
        """
        self._config = dataclasses.replace(trained.config, precision="float32")
        self._channels = trained.image_shape[2]
        if self._channels not in (1, 3):
            raise UsageError(
                f"the run's images have {self._channels} channels; only a model of 1 "
                "(gray) or 3 (colour) channels can denoise pictures"
            )
        if self._config.model not in SIZE_MULTIPLES:
            height, width, _ = trained.image_shape
            raise UsageError(
                f"--model={self._config.model}, which the run trained, takes pictures "
                f"of {width} x {height} pixels alone; a convolutional one, as "
                "--model=conv, takes any size"
            )
        self.multiple = SIZE_MULTIPLES[self._config.model]
        self._tile = tile // self.multiple * self.multiple
        model = build_model(self._config, (None, None, self._channels))
        self.margin = _round_up(self._measure_reach(model), self.multiple)
        model.set_weights(trained.model.get_weights())
        self._restore_values = self._compile(model)
        if 2 * self.margin + self.multiple > self._tile:
            raise UsageError(
                f"--model={self._config.model} can't denoise pictures in tiles of "
                f"{self._tile} pixels: an output depends on pixels too far away"
            )

    def denoise(self, pixels: np.ndarray) -> np.ndarray:
        """What the model makes of a picture.

        A model of one channel is applied to each channel alone; one of three channels
        gets a gray picture three times, and the mean of its outputs is taken.

        Args:
          pixels: uint8, uint16 or float32 in [0, 1], [H, W, C]; C is 1 for gray, 3 for
            colour, one more with alpha, which is kept.

        Returns:
          The same type and shape; integers are clipped and rounded.
        """
        colours = pixels.shape[2] - (pixels.shape[2] % 2 == 0)
        sizes = pixels.shape[:2]
        extended = [_round_up(n + 2 * self.margin, self.multiple) for n in sizes]
        tile = min(extended[0], self._tile), min(extended[1], self._tile)
        spans = (
            cut(*lengths, self.margin)
            for lengths in zip(sizes, extended, tile, strict=True)
        )
        windows = list(itertools.product(*spans))
        images = colours if self._channels == 1 else 1
        together = max(1, _CALL_PIXELS // (tile[0] * tile[1] * images))
        result = pixels.copy()
        for start in range(0, len(windows), together):
            chosen = windows[start : start + together]
            tiles = [_crop(pixels[..., :colours], window, tile) for window in chosen]
            outputs = self._restore(np.stack(tiles))
            for (y, x), output in zip(chosen, outputs, strict=True):
                rows = slice(y.first - y.start, y.end - y.start)
                columns = slice(x.first - x.start, x.end - x.start)
                area = result[y.first : y.end, x.first : x.end, :colours]
                area[...] = output[rows, columns]
        return result

    def _restore(self, tiles: np.ndarray) -> Any:
        """What the model makes of tiles [n, h, w, 1 or 3], in their type."""
        is_integer = np.issubdtype(tiles.dtype, np.integer)
        peak = np.float32(np.iinfo(tiles.dtype).max if is_integer else 1)
        n, height, width, colours = tiles.shape
        values = tiles.astype(np.float32) / peak
        function = self._restore_values
        if self._channels == 1:
            alone = np.moveaxis(values, 3, 1).reshape(n * colours, height, width, 1)
            outputs = function(alone).numpy().reshape(n, colours, height, width)
            outputs = np.moveaxis(outputs, 1, 3)
        elif colours == 1:
            outputs = function(np.repeat(values, 3, axis=3)).numpy()
            outputs = outputs.mean(axis=3, keepdims=True)
        else:
            outputs = function(values).numpy()
        if is_integer:
            outputs = np.rint(np.clip(outputs, 0, 1) * peak)
        return outputs.astype(tiles.dtype, copy=False)

    def _compile(self, model: Any) -> Any:
        """The model as a function: float32 [n, h, w, C] to the same."""
        return tf.function(
            lambda images: model(images, training=False),
            input_signature=[tf.TensorSpec([None, None, None, self._channels])],
            autograph=False,
        )

    def _measure_reach(self, model: Any) -> int:
        """How far away, in pixels along an axis, a pixel can change the output.

        Found by a single bright pixel, once in each place between two poolings. All
        kernels become ones, and the biases are as they are at first, so that nothing on
        the way is cancelled or held back by a relu or a maximum. On the CPU, where what
        is zero stays exactly zero.
        """
        size = _PROBE * self.multiple
        black = np.zeros([1, size, size, self._channels], np.float32)
        reach = 0
        with tf.device("CPU:0"):
            for variable in model.trainable_variables:
                if len(variable.shape) > 1:
                    variable.assign(np.ones(variable.shape))
            for place in range(size // 2, size // 2 + self.multiple):
                bright = black.copy()
                bright[0, place, place] = 1e6
                changed = model(bright).numpy()[0] != model(black).numpy()[0]
                reach = max(reach, *np.abs(np.argwhere(changed)[:, :2] - place).flat)
        # What goes on to the border of so small a picture may go on for ever.
        return int(reach) if reach < size // 2 - self.multiple else self._tile


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _crop(
    pixels: np.ndarray, window: tuple[Span, ...], tile: tuple[int, ...]
) -> np.ndarray:
    """A tile [h, w, C] of a picture [H, W, C], reflected where the picture ends."""
    inside, missing = [], []
    for span, length, size in zip(window, tile, pixels.shape, strict=False):
        end = span.start + length
        inside.append(slice(max(span.start, 0), min(end, size)))
        missing.append((max(-span.start, 0), max(end - size, 0)))
    return np.pad(pixels[tuple(inside)], [*missing, (0, 0)], mode="reflect")
