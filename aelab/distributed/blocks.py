"""Cuts a batch into blocks, which the cores of a CPU compute in parallel.

TensorFlow's convolutions gain little from a second thread of their own: on the shapes
of these networks two cores do 1.1 to 1.3 times the work of one. Two blocks of a batch,
each computed by one thread from its first layer to its last gradient, keep both cores
busy (docs/performance.md). The boundaries do not depend on the number of cores, so
sums over blocks are always taken in the same order.
"""

import os

from aelab.config import Config

_MAX_BLOCKS = 8
_MIN_ROWS = 64


def num_blocks(rows: int) -> int:
    """The number of equal blocks into which a CPU replica cuts its part of a batch.

    This is the largest number up to 8 that divides the part's `rows` into blocks of at
    least 64 rows, or 1 if there is none.
    """
    counts = range(min(_MAX_BLOCKS, rows // _MIN_ROWS), 1, -1)
    return next((n for n in counts if rows % n == 0), 1)


def threads_per_op(config: Config) -> int:
    """The intra-op thread count that avoids oversubscribing cores."""
    replicas = max(1, config.virtual_cpus)
    blocks = num_blocks(max(1, config.batch_size // replicas))
    return max(1, len(os.sched_getaffinity(0)) // (replicas * blocks))
