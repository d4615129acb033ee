"""Tables of probabilities, and symbols coded by them."""

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from aelab.errors import UsageError

PRECISION = 24  # bits of a frequency, as many as `constriction` computes with
TOTAL = 1 << PRECISION  # what frequencies add up to
_NAMES = ("lowest", "sizes", "classes", "frequencies")
_KINDS = (("i4", 1), ("i4", 1), ("u4", 1), ("u4", 2))


class Tables:
    """For each class of images: how often each integer occurs at each place of a code.

    The places of a code are independent only within a class, which is coded first: a
    mixture, which takes fewer bytes than one table a place.

    Attributes:
      step: what a code is rounded to multiples of, float; the integers count them.
      lowest: int32 [places], the lowest integer of each place.
      sizes: int32 [places], how many there are from that on.
      classes: uint32 [classes], how often each class occurs; they add up to 2**24.
      frequencies: uint32 [classes, sum of sizes], of one place after the other; those
        of a class and a place add up to 2**24.
    """

    def __init__(
        self,
        step: float,
        lowest: np.ndarray,
        sizes: np.ndarray,
        classes: np.ndarray,
        frequencies: np.ndarray,
    ):
        """Checks the tables, and prepares coding by them.

        Raises:
          UsageError: `constriction` is not installed.
          ValueError: the arrays do not fit together.
        """
        self.step, self.lowest, self.sizes = step, lowest, sizes
        self.classes, self.frequencies = classes, frequencies
        self._check()
        coding = _constriction()
        self._new_coder = coding.stack.AnsCoder

        # 24 bits are exact in float64, so every machine gets the same probabilities.
        def model(frequencies: np.ndarray) -> Any:
            return coding.model.Categorical(frequencies / TOTAL, perfect=False)

        self._starts = np.cumsum(sizes) - sizes
        self._class_model = model(classes)
        self._models = [
            [model(part) for part in np.split(row, self._starts[1:])]
            for row in frequencies
        ]
        self._class_bits = -np.log2(classes / TOTAL)
        self._bits = -np.log2(frequencies / TOTAL).astype(np.float32)

    def _check(self) -> None:
        arrays = (self.lowest, self.sizes, self.classes, self.frequencies)
        for array, (kind, rank) in zip(arrays, _KINDS, strict=True):
            if array.dtype != np.dtype(kind) or array.ndim != rank:
                raise ValueError("tables of another type")
        if not 0 < self.step < math.inf:
            raise ValueError(f"a step of {self.step}")
        sizes, shape = self.sizes, self.frequencies.shape
        if len(sizes) != len(self.lowest) or not len(sizes) or (sizes < 2).any():
            raise ValueError("tables of unequal length")
        if shape != (len(self.classes), sizes.sum(dtype=np.int64)) or shape[0] < 2:
            raise ValueError("tables of another shape")
        starts = np.cumsum(sizes) - sizes
        sums = np.add.reduceat(self.frequencies, starts, axis=1, dtype=np.int64)
        totals = [*sums.ravel(), self.classes.sum(dtype=np.int64)]
        if set(totals) != {TOTAL} or not self.frequencies.all():
            raise ValueError("a table's frequencies do not add up")
        if not self.classes.all():
            raise ValueError("a class that never occurs")

    @property
    def crc(self) -> int:
        """CRC-32 of step and tables: files of others can't be decoded by these."""
        arrays = self.arrays().values()
        content = [a.astype(a.dtype.newbyteorder("<")).tobytes() for a in arrays]
        return zlib.crc32(b"".join(content))

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it as named arrays."""
        return {f"tables/{n}": np.asarray(getattr(self, n)) for n in ("step", *_NAMES)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Tables":
        """The tables that `arrays()` returned, among others.

        Raises:
          KeyError, ValueError: they are not there, or do not fit together.
        """
        step = float(arrays["tables/step"])
        return cls(step, *(arrays[f"tables/{name}"] for name in _NAMES))

    def clip(self, integers: np.ndarray) -> np.ndarray:
        """The nearest integers that the tables have: int32 [n, places]."""
        highest = self.lowest + self.sizes - 1
        clipped: np.ndarray = np.clip(integers, self.lowest, highest)
        return clipped.astype(np.int32, copy=False)

    def bits(self, symbols: np.ndarray) -> np.ndarray:
        """What symbols, int32 [n, places], take in each class: float32 [classes, n]."""
        indices = symbols - self.lowest + self._starts
        parts = [np.take(row, indices).sum(axis=1) for row in self._bits]
        return np.stack(parts) + self._class_bits[:, np.newaxis].astype(np.float32)

    def encode(self, symbols: np.ndarray) -> tuple[bytes, float]:
        """Symbols, int32 [n, places], each within its table, as bytes.

        Asymmetric numeral systems (Duda 2013), by `constriction` (Bamler 2022): the
        class of each image, the one that takes fewest bits; then class by class, place
        by place the symbols of its images.

        Returns:
          The bytes, and how many it would be by the probabilities.
        """
        coder = self._new_coder()
        bits = self.bits(symbols)
        chosen = bits.argmin(axis=0).astype(np.int32)
        indices = symbols - self.lowest
        # The coder is a stack: what is to come out first goes in last.
        for number, models in reversed([*enumerate(self._models)]):
            columns = np.ascontiguousarray(indices[chosen == number].T)
            for column, model in zip(columns[::-1], models[::-1], strict=True):
                coder.encode_reverse(column, model)
        coder.encode_reverse(chosen, self._class_model)
        ideal_bytes = float(bits.min(axis=0).sum(dtype=np.float64)) / 8
        return coder.get_compressed().astype("<u4").tobytes(), ideal_bytes

    def decode(self, content: bytes, count: int) -> np.ndarray:
        """What `encode` made of `count` images' symbols: int32 [count, places].

        Raises:
          ValueError: `content` is not what `encode` gives for so many.
        """
        coder = self._new_coder(np.frombuffer(content, "<u4").astype(np.uint32))
        chosen = coder.decode(self._class_model, count)
        symbols = np.empty((count, len(self.lowest)), np.int32)
        for number, models in enumerate(self._models):
            rows = np.flatnonzero(chosen == number)
            for place, model in enumerate(models):
                symbols[rows, place] = coder.decode(model, len(rows))
        if not coder.is_empty():
            raise ValueError("it holds more than it should")
        symbols += self.lowest
        return symbols


def crc_of(symbols: np.ndarray) -> int:
    """CRC-32 of symbols, int32 [n, places], the same on every machine."""
    return zlib.crc32(np.ascontiguousarray(symbols, "<i4").data)


def _constriction() -> Any:
    try:
        import constriction
    except ImportError:
        raise UsageError(
            "compressed files need the library constriction: "
            "pip install -c constraints.txt -e '.[codec]'"
        ) from None
    return constriction.stream
