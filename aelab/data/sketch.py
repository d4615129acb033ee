"""Drawing with signed distances, for the embedded data set.

A shape is its signed distance in pixels, negative inside. The distance becomes the
coverage of a pixel, so edges are soft. Only correctly rounded operations (+ - * / sqrt
abs min max floor, comparisons) and no sums over arrays are used, so that the bytes are
the same on every machine: NumPy's sin, exp, pow and matmul, and the order of its sums,
differ between CPUs.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
# A float, or float32 [n, 1, 1]. In NumPy's stubs their product is float64.
Real = Any
Point = tuple[Real, Real]

SIDE = 28  # pixels
DICE = 48  # random numbers available for the parameters of one image


def stroke(x: Array, y: Array, points: Sequence[Point]) -> Array:
    """Distance to the line through `points`."""
    square = np.full_like(x, np.inf)
    for (ax, ay), (bx, by) in pairwise(points):
        dx, dy, along, down = x - ax, y - ay, bx - ax, by - ay
        t = (dx * along + dy * down) / (along * along + down * down + 1e-6)
        np.clip(t, 0, 1, out=t)
        dx -= t * along
        dy -= t * down
        np.minimum(square, dx * dx + dy * dy, out=square)
    return np.sqrt(square, out=square)


def outline(x: Array, y: Array, points: Sequence[Point]) -> Array:
    """Signed distance to the shape bounded by the line through `points`.

    A closed line repeats its first point. If x is replaced by |x|, a line from the axis
    x = 0 back to the axis is half the outline of a symmetric shape.
    """
    inside = np.zeros(x.shape, np.bool_)
    for (ax, ay), (bx, by) in pairwise(points):
        crosses = (ay > y) != (by > y)
        left = (x - ax) * (by - ay) < (y - ay) * (bx - ax)
        inside ^= crosses & (left == (by > ay))
    distance = stroke(x, y, points)
    return np.where(inside, -distance, distance)


def box(x: Array, y: Array, center: Point, half: Point) -> Array:
    """Signed distance to an upright box of half-width and half-height `half`."""
    across, down = abs(x - center[0]) - half[0], abs(y - center[1]) - half[1]
    distance: Array = np.maximum(across, down)
    return distance


def soften(points: Sequence[Point], cut: Real = 0.3) -> list[Point]:
    """The line through `points`, with corners cut off by a fraction of their sides."""
    middle = [
        (b[0] + cut * (end[0] - b[0]), b[1] + cut * (end[1] - b[1]))
        for a, b, c in zip(points[:-2], points[1:-1], points[2:], strict=True)
        for end in (a, c)
    ]
    return [points[0], *middle, points[-1]]


def wave(phase: Array, edge: Real) -> Array:
    """Stripes in [0, 1] with period 1 and edges of width `edge`."""
    triangle = abs(phase - np.floor(phase) - 0.5) - 0.25
    return np.clip(triangle / edge + 0.5, 0, 1, out=triangle)


class Sketch:
    """A batch of pictures of one kind while they are drawn.

    These are float32 [n, 28, 28]: `x` and `y`, pixels to the right of the garment's
    center and below it; `grain`, noise in [0, 1); `cloth`, the fabric in [0, 1], for
    the whole picture; and `picture`, the drawing so far, on black. The gray levels of
    the garment (`tone`) and of its second color (`accent`) are [n, 1, 1] in [0, 1].
    """

    def __init__(self, dice: Array, grain: Array) -> None:
        """Takes `dice` [n, DICE] and `grain` [n, 28, 28], uniform in [0, 1)."""
        self._dice = iter(dice.T[:, :, None, None])
        self.grain = grain
        self.x, self.y = self._place()
        self.tone = np.maximum(self.uniform(0.3, 1.0), self.uniform(0.3, 1.0))
        self.accent = self.uniform(0.15, 1.0)
        self.cloth = self._weave()
        self.picture = np.zeros_like(grain)

    def uniform(self, low: float, high: float) -> Real:
        """The next parameter, float32 [n, 1, 1] in [low, high)."""
        return low + (high - low) * next(self._dice)

    def chance(self, probability: float) -> Real:
        """1 with that probability, else 0, float32 [n, 1, 1]."""
        return (next(self._dice) < probability).astype(np.float32)

    def _place(self) -> tuple[Array, Array]:
        """Pixel coordinates after a small shift, rotation, scaling, shear and bend."""
        u, line = self.uniform, np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
        column, row = line + u(-0.8, 0.8), line[:, None] + u(-0.8, 0.8)
        t = u(-0.03, 0.03)  # tan(angle / 2): up to 3.4 degrees
        cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
        x = (cos * column + sin * row) * u(0.92, 1.08)
        y = (cos * row - sin * column) * u(0.95, 1.06)
        return x + u(-0.04, 0.04) * y + u(-0.004, 0.004) * y * y, y

    def _weave(self) -> Array:
        """Plain, striped, checked, printed or speckled fabric with folds."""
        u, style, rare = self.uniform, self.uniform(0, 1), self.uniform(0, 1)
        period = 2.5 + 5 * rare + 20 * rare * rare * rare * rare
        rows = wave(self.y / period + u(0, 1), 1 / period)
        columns = wave(self.x / period + u(0, 1), 1 / period)
        blur = self.grain
        for axis in (1, 2, 1, 2):
            blur = blur + np.roll(blur, 1, axis)
        mix = 0.7 * rows * ((style > 0.45) & (style < 0.65))
        mix += 0.7 * columns * ((style > 0.58) & (style < 0.74))
        mix += np.clip(0.7 * (blur - 8) + u(-0.5, 0.5), 0, 1) * (style > 0.74)
        mix = np.where(style > 0.88, 0.8 * self.grain * (style > 0.93), mix)
        folds = wave((self.x + u(-1, 1) * self.y) / 9, 1.0)
        cloth: Array = self.tone + np.minimum(mix, 1) * (self.accent - self.tone)
        cloth *= 1 - u(0, 0.25) * folds
        return cloth

    def paint(self, distance: Array, tone: Real, opacity: Real = 1.0) -> None:
        """Covers a shape with `tone`."""
        cover = np.clip(0.5 - distance, 0, 1) * opacity
        self.picture += cover * (tone - self.picture)

    def fill(self, distance: Array, tone: Real) -> None:
        """Covers a shape with `tone`, darker towards the edge as on a round body."""
        self.paint(distance, tone * (1 - 0.22 * np.clip(1 + distance / 2, 0, 1)))

    def shade(self, distance: Array, amount: Real, width: float = 1.0) -> None:
        """Darkens a shape by the fraction `amount`, fading over `width` pixels."""
        self.picture *= 1 - amount * np.clip(1 - distance / width, 0, 1)

    def develop(self) -> Bytes:
        """Applies the light; returns the finished pictures, uint8 [n, 28, 28]."""
        u = self.uniform
        light = 1.08 + u(-0.012, 0.012) * self.x - u(0, 0.012) * self.y
        light -= u(0, 0.1) * self.grain
        gray: Array = np.clip(self.picture * light, 0, 1)
        return (gray * 255 + 0.5).astype(np.uint8)
