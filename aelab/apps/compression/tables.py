"""Tables of probabilities, and entropy coding with them."""

import functools
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from aelab.system.optional import require

TOTAL = 2**24  # sum of a distribution's frequencies; `constriction` has 24 bits, too
_NAMES = ("lowest", "sizes", "classes", "frequencies")
_KINDS = (("i4", 1), ("i4", 1), ("u4", 1), ("u4", 2))  # dtype and rank


@dataclass(eq=False)
class Tables:
    """The probability of each integer at each place of a code, by class of image.

    The places of a code are independent only within a class. The class of an image is
    coded first. This mixture takes fewer bytes than one table per place.

    Creating tables that do not fit together raises ValueError; it raises UsageError if
    `constriction` is not installed.
    """

    step: float  # of the quantizer; integers count steps
    lowest: np.ndarray  # int32 [places]: the lowest integer of each place
    sizes: np.ndarray  # int32 [places]: the number of integers, from the lowest on
    classes: np.ndarray  # uint32 [classes]: frequencies, which sum to 2**24
    # uint32 [classes, sum of sizes]: frequencies of the integers, one place after
    # another, which sum to 2**24 within a class and a place
    frequencies: np.ndarray

    def __post_init__(self) -> None:
        self._check()
        coding = require("constriction", extra="codec").stream
        self._new_coder = coding.stack.AnsCoder

        # 24 bits are exact in float64, so every machine gets the same probabilities.
        classes, shares = self.classes / TOTAL, self.frequencies / TOTAL
        model = functools.partial(coding.model.Categorical, perfect=False)
        self._starts = np.cumsum(self.sizes) - self.sizes
        self._class_model = model(classes)
        rows = [np.split(row, self._starts[1:]) for row in shares]
        self._models = [[model(part) for part in row] for row in rows]
        self._class_bits = -np.log2(classes)
        self._bits = -np.log2(shares).astype(np.float32)

    def _check(self) -> None:
        arrays = (self.lowest, self.sizes, self.classes, self.frequencies)
        for array, (kind, rank) in zip(arrays, _KINDS, strict=True):
            if array.dtype != np.dtype(kind) or array.ndim != rank:
                raise ValueError("a table has the wrong type or rank")
        if not 0 < self.step < math.inf:
            raise ValueError(f"the step of the tables is {self.step}")
        sizes, shape = self.sizes, self.frequencies.shape
        if len(sizes) != len(self.lowest) or not len(sizes) or (sizes < 2).any():
            raise ValueError("the tables differ in length")
        if shape != (len(self.classes), sizes.sum(dtype=np.int64)) or shape[0] < 2:
            raise ValueError("the tables have the wrong shape")
        starts = np.cumsum(sizes) - sizes
        sums = np.add.reduceat(self.frequencies, starts, axis=1, dtype=np.int64)
        totals = [*sums.ravel(), self.classes.sum(dtype=np.int64)]
        is_positive = self.frequencies.all() and self.classes.all()
        if set(totals) != {TOTAL} or not is_positive:
            raise ValueError("the frequencies of a table are zero or do not add up")

    @property
    def crc(self) -> int:
        """CRC-32 of step and tables; a file decodes only with the tables it names."""
        arrays = self.arrays().values()
        content = [a.astype(a.dtype.newbyteorder("<")).tobytes() for a in arrays]
        return zlib.crc32(b"".join(content))

    def arrays(self) -> dict[str, np.ndarray]:
        """Step and tables as named arrays."""
        return {f"tables/{n}": np.asarray(getattr(self, n)) for n in ("step", *_NAMES)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Tables":
        """Tables from the arrays that `arrays()` returned; others are ignored.

        Raises:
          KeyError, ValueError: arrays are missing, or do not fit together.
        """
        step = float(arrays["tables/step"])
        return cls(step, *(arrays[f"tables/{name}"] for name in _NAMES))

    def clip(self, integers: np.ndarray) -> np.ndarray:
        """Integers clipped to the range of the tables: int32 [n, places]."""
        highest = self.lowest + self.sizes - 1
        return np.asarray(np.clip(integers, self.lowest, highest), np.int32)

    def bits(self, symbols: np.ndarray) -> np.ndarray:
        """Bits of symbols, int32 [n, places], in each class: float32 [classes, n]."""
        indices = symbols - self.lowest + self._starts
        parts = [np.take(row, indices).sum(axis=1) for row in self._bits]
        return np.stack(parts) + self._class_bits[:, np.newaxis].astype(np.float32)

    def encode(self, symbols: np.ndarray) -> tuple[bytes, float]:
        """Codes symbols, int32 [n, places], each within the range of its table.

        Returns the bytes, and their ideal number by the probabilities. By asymmetric
        numeral systems (Duda 2013) of `constriction` (Bamler 2022). The class of each
        image, the one in which it takes fewest bits, comes first. The symbols follow,
        class by class and place by place.
        """
        coder, bits = self._new_coder(), self.bits(symbols)
        labels = bits.argmin(axis=0).astype(np.int32)
        indices = symbols - self.lowest
        # The coder is a stack: what comes out first must go in last.
        for label, models in reversed([*enumerate(self._models)]):
            columns = np.ascontiguousarray(indices[labels == label].T)
            for column, model in zip(columns[::-1], models[::-1], strict=True):
                coder.encode_reverse(column, model)
        coder.encode_reverse(labels, self._class_model)
        ideal_bytes = float(bits.min(axis=0).sum(dtype=np.float64)) / 8
        return coder.get_compressed().astype("<u4").tobytes(), ideal_bytes

    def decode(self, content: bytes, count: int) -> np.ndarray:
        """Decodes the symbols of `count` images: int32 [count, places].

        Raises:
          ValueError: `encode` did not write `content` for so many images.
        """
        coder = self._new_coder(np.frombuffer(content, "<u4").astype(np.uint32))
        labels = coder.decode(self._class_model, count)
        symbols = np.empty((count, len(self.lowest)), np.int32)
        for label, models in enumerate(self._models):
            rows = np.flatnonzero(labels == label)
            for place, model in enumerate(models):
                symbols[rows, place] = coder.decode(model, len(rows))
        if not coder.is_empty():
            raise ValueError("bytes are left after the last symbol")
        symbols += self.lowest
        return symbols


def crc_of(symbols: np.ndarray) -> int:
    """CRC-32 of symbols, int32 [n, places], the same on every machine."""
    return zlib.crc32(np.ascontiguousarray(symbols, "<i4").data)
