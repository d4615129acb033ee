"""How a batch is cut into blocks, which the cores of a CPU compute side by side.

TensorFlow's convolutions gain little from a second thread of their own: on the shapes
of these networks two cores do 1.1 to 1.3 times the work of one. Two blocks of a batch,
each computed by one thread from its first layer to its last gradient, keep both cores
busy (docs/performance.md). Where the blocks end follows from the batch alone, not from
the number of cores, so that sums over blocks are always taken in the same order.
"""

import os

from aelab.config import Config

_MOST_BLOCKS = 8
_LEAST_ROWS = 64


def num_blocks(rows: int) -> int:
    """Into how many equal blocks a replica of a CPU cuts its rows of a batch.

    Args:
      rows: how many there are, at least 1.

    Returns:
      The largest number up to 8 that divides `rows` into blocks of 64 rows or more; 1
      if there is none.
    """
    return max(
        n
        for n in range(1, _MOST_BLOCKS + 1)
        if n == 1 or (rows % n == 0 and rows // n >= _LEAST_ROWS)
    )


def threads_per_op(config: Config) -> int:
    """How many threads one operation may use, for no core to be used twice at a time.

    Args:
      config: how the CPU is split, and batches.
    """
    replicas = max(1, config.virtual_cpus)
    blocks = num_blocks(max(1, config.batch_size // replicas))
    return max(1, len(os.sched_getaffinity(0)) // (replicas * blocks))
