"""Reductions over the workers of a run."""

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import aelab
from aelab.config import Config
from aelab.distributed.cluster import Cluster
from aelab.errors import UsageError


class WorkerGroup:
    """The workers of a run. All workers must call its methods in the same order.

    `strategy` connects them. `worker` is the index of this process, and `workers` is
    their number. Without a `cluster` there is only one.
    """

    def __init__(self, strategy: tf.distribute.Strategy, cluster: Cluster | None):
        self.strategy = strategy
        self.worker = cluster.index if cluster else 0
        self.workers = len(cluster.addresses) if cluster else 1

    @property
    def is_chief(self) -> bool:
        """True if this process writes the run directory and the console."""
        return self.worker == 0

    def sum_over_workers(self, values: np.ndarray) -> np.ndarray:
        """The sum of the workers' `values` (int64, one shape), on every worker."""
        if self.workers == 1:
            return values
        replicas_per_worker = self.strategy.num_replicas_in_sync // self.workers

        def contribution(context: Any) -> tf.Tensor:
            """The values on the first replica of each worker, and zeros on others."""
            is_first = context.replica_id_in_sync_group % replicas_per_worker == 0
            return tf.constant(values if is_first else np.zeros_like(values))

        each = self.strategy.experimental_distribute_values_from_function(contribution)
        return np.asarray(self.strategy.reduce("SUM", each, axis=None))

    def max_over_workers(self, number: int) -> int:
        """The largest of the workers' numbers, on every worker."""
        return int(self._gather(np.array([number])).max())

    def barrier(self) -> None:
        """Blocks until all workers reach this point."""
        self.max_over_workers(0)

    def _gather(self, row: np.ndarray) -> np.ndarray:
        """The rows (int64 [n]) of all workers: int64 [workers, n]."""
        table = np.zeros([self.workers, len(row)], np.int64)
        table[self.worker] = row
        return self.sum_over_workers(table)

    def check_same_settings(self, settings: Mapping[str, Any]) -> None:
        """Checks that all workers were started with the same settings.

        Raises:
          UsageError: a setting differs between two workers; raised on all of them.
        """
        hashes = [zlib.crc32(repr(value).encode()) for value in settings.values()]
        differs = np.ptp(self._gather(np.array(hashes, np.int64)), axis=0) > 0
        if names := [name for name, d in zip(settings, differs, strict=True) if d]:
            raise UsageError(
                "the workers were not started with the same settings; they differ in "
                + ", ".join(names)
            )

    def broadcast_from_chief(
        self, arrays: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The chief's arrays, bit for bit, on every worker.

        Each worker's `arrays` must have the same names, shapes and types.
        """
        if self.workers == 1:
            return dict(arrays)
        content = b"".join(array.tobytes() for array in arrays.values())
        words = np.frombuffer(content + bytes(-len(content) % 8), np.int64)
        words = self.sum_over_workers(words if self.is_chief else np.zeros_like(words))
        content, start, received = words.tobytes(), 0, {}
        for name, array in arrays.items():
            piece = np.frombuffer(content, array.dtype, array.size, start)
            received[name] = piece.reshape(array.shape)
            start += array.nbytes
        return received


def shared_settings(config: Config, data: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that must be identical on all workers, by name."""
    versions = {"TensorFlow": tf.__version__, "Keras": keras.__version__}
    versions |= {"aelab": aelab.__version__}
    fields = dataclasses.asdict(config) | {"data_dir": ""}
    flags = {f"--{name}": value for name, value in fields.items()}
    return flags | {f"{name} data": value for name, value in data.items()} | versions
