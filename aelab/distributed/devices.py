"""Devices: which ones a run uses, and what the workers of a run tell each other."""

import dataclasses
import os
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import aelab
from aelab.config import Config
from aelab.distributed.blocks import num_blocks
from aelab.distributed.cluster import Cluster
from aelab.errors import UsageError
from aelab.system.signals import default_signal_handling
from aelab.system.startup import buffered_stderr

# Where XLA was measured to be faster (BUILD.md): (model, kind of device, precision).
_XLA_HELPS = {
    ("conv", "CPU", "mixed_float16"),
    ("dense", "CPU", "mixed_float16"),
}


def _single(config: Config, cluster: Cluster | None) -> tf.distribute.Strategy:
    """The first GPU, or else the CPU."""
    return tf.distribute.get_strategy()


def _mirrored(config: Config, cluster: Cluster | None) -> tf.distribute.Strategy:
    """The devices named, or else all of the better kind."""
    known = [_short(d.name) for d in tf.config.list_logical_devices()]
    kind = "GPU" if any(name.startswith("GPU") for name in known) else "CPU"
    names = [name for name in known if name.startswith(kind)]
    if config.devices:
        names = config.devices.split(",")
        odd = [name for name in names if name not in known]
        if odd or len(set(names)) < len(names):
            raise UsageError(
                f"--devices={config.devices} must name some of {','.join(known)}, each "
                "once; --virtual_cpus makes more CPUs"
            )
        if len({name.partition(":")[0] for name in names}) > 1:
            raise UsageError(
                f"--devices={config.devices} must name devices of one kind"
            )
    # Two of different sizes in one process (a sweep, a test) would meet in one group
    # otherwise; TensorFlow's own tests do the same.
    tf.distribute.MirroredStrategy._collective_key_base += 1000
    return tf.distribute.MirroredStrategy(names)


def _multi_worker(config: Config, cluster: Cluster | None) -> tf.distribute.Strategy:
    """Every GPU of each worker, or else one CPU of each."""
    assert cluster
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.index,
        num_accelerators={"GPU": len(tf.config.get_visible_devices("GPU"))},
        rpc_layer="grpc",
    )
    own = cluster.addresses[cluster.index]
    print(
        f"Worker     {cluster.index} of {len(cluster.addresses)} at {own}; waits for "
        "the others",
        flush=True,
    )
    try:
        with buffered_stderr(), default_signal_handling():
            return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except RuntimeError as error:
        raise UsageError(
            f"--strategy=multi_worker must start before TensorFlow is used: {error}"
        ) from None
    except tf.errors.OpError as error:
        raise UsageError(
            f"worker {cluster.index} could not join the others at {own}: "
            f"{error.message.splitlines()[0]}"
        ) from None


STRATEGIES: dict[str, Callable[[Config, Cluster | None], tf.distribute.Strategy]] = {
    "single": _single,
    "mirrored": _mirrored,
    "multi_worker": _multi_worker,
}


def _short(name: str) -> str:
    """`/job:worker/task:0/device:GPU:1` as `GPU:1`."""
    return name.rpartition("device:")[2]


class Distribution:
    """The devices of a run.

    Attributes:
      strategy: the `tf.distribute.Strategy` that holds them.
      use_xla: whether XLA compiles training, see `build_train_loop`.
      blocks: how many blocks each replica cuts its rows in, see `num_blocks`.
      worker, workers: number of this process among how many.
    """

    def __init__(self, config: Config, cluster: Cluster | None = None):
        """Makes the devices that `config` names ready.

        Args:
          config: strategy, devices, precision, XLA.
          cluster: the workers, with `--strategy=multi_worker`.

        Raises:
          UsageError: a device that is not there, a batch that can't be cut into equal
            parts, or workers that do not find each other.
        """
        self.strategy = STRATEGIES[config.strategy](config, cluster)
        self.worker = cluster.index if cluster else 0
        self.workers = len(cluster.addresses) if cluster else 1
        self._config = config
        helps = (config.model, self._kind, config.precision) in _XLA_HELPS
        self.use_xla = {"auto": helps, "true": True, "false": False}[config.jit_compile]
        replicas = self.strategy.num_replicas_in_sync
        if config.batch_size % replicas:
            below = config.batch_size // replicas * replicas
            sizes = " or ".join(str(n) for n in (below, below + replicas) if n)
            raise UsageError(
                f"--batch_size={config.batch_size} can't be cut into equal parts for "
                f"{replicas} replicas: it must be a multiple of {replicas}, as {sizes}"
            )

        self.blocks = 1
        # Workers do not know of each other's rows when they set their threads.
        if self._kind == "CPU" and self.workers == 1:
            self.blocks = num_blocks(config.batch_size // replicas)

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run directory and the console."""
        return self.worker == 0

    @property
    def _devices(self) -> list[str]:
        """The names of this process' devices."""
        if self._config.strategy == "single":
            gpus = tf.config.list_logical_devices("GPU")
            return [_short(gpus[0].name)] if gpus else ["CPU:0"]
        return [_short(name) for name in self.strategy.extended.worker_devices]

    @property
    def _kind(self) -> str:
        return self._devices[0].partition(":")[0]

    def describe(self) -> dict[str, Any]:
        """What was chosen, for `config.json`; devices are those of this worker."""
        details = [_gpu_details(n) for n in self._devices if n.startswith("GPU")]
        return {
            "workers": self.workers,
            "replicas": self.strategy.num_replicas_in_sync,
            "devices": self._devices,
            "device_names": [gpu.get("device_name", "GPU") for gpu in details],
            "precision": self._config.precision,
            "xla": self.use_xla,
            "tf32": any(_has_tf32(gpu) for gpu in details) and _is_tf32_on(),
        }

    def line(self) -> str:
        """What was chosen, for people."""
        chosen = self.describe()
        names = ", ".join(sorted(set(chosen["device_names"])))
        parts = [
            f"{chosen['replicas']} x {self._kind}" + (f" ({names})" if names else ""),
            self._config.strategy.replace("_", " "),
        ]
        if self.workers > 1:
            parts.append(f"{self.workers} workers")
        parts.append(self._config.precision.replace("_", " "))
        if self._kind == "GPU":
            parts.append(f"TF32 {'on' if chosen['tf32'] else 'off'}")
        parts.append(f"XLA {'on' if self.use_xla else 'off'}")
        return ", ".join(parts)

    def sum_over_workers(self, values: np.ndarray) -> np.ndarray:
        """The sum of what each worker gives, int64 of one shape, on every worker."""
        if self.workers == 1:
            return values
        local = self.strategy.num_replicas_in_sync // self.workers

        def contribution(context: Any) -> tf.Tensor:
            is_first = context.replica_id_in_sync_group % local == 0
            return tf.constant(values if is_first else np.zeros_like(values))

        each = self.strategy.experimental_distribute_values_from_function(contribution)
        return np.asarray(self.strategy.reduce("SUM", each, axis=None))

    def max_over_workers(self, number: int) -> int:
        """The largest of the workers' numbers, on every worker."""
        return int(self._table(np.array([number])).max())

    def barrier(self) -> None:
        """Returns when all workers have come here."""
        self.max_over_workers(0)

    def _table(self, row: np.ndarray) -> np.ndarray:
        """The rows (int64 [n]) of all workers: int64 [workers, n]."""
        table = np.zeros([self.workers, len(row)], np.int64)
        table[self.worker] = row
        return self.sum_over_workers(table)

    def check_same_settings(self, what: Mapping[str, Any]) -> None:
        """Checks that the workers were started alike.

        Args:
          what: what must be equal everywhere, by name.

        Raises:
          UsageError: something differs between two workers; raised on all of them.
        """
        hashes = [zlib.crc32(repr(value).encode()) for value in what.values()]
        differ = np.ptp(self._table(np.array(hashes, np.int64)), axis=0) > 0
        if odd := [name for name, differs in zip(what, differ, strict=True) if differs]:
            raise UsageError(
                f"the workers were not started alike; they differ in {', '.join(odd)}"
            )

    def broadcast_from_chief(
        self, arrays: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The chief's arrays, bit for bit, on every worker; shapes must be alike."""
        if self.workers == 1:
            return dict(arrays)
        content = b"".join(array.tobytes() for array in arrays.values())
        words = np.frombuffer(content + bytes(-len(content) % 8), np.int64)
        words = self.sum_over_workers(words if self.is_chief else np.zeros_like(words))
        content, start, found = words.tobytes(), 0, {}
        for name, array in arrays.items():
            piece = np.frombuffer(content, array.dtype, array.size, start)
            found[name] = piece.reshape(array.shape)
            start += array.nbytes
        return found


def _gpu_details(name: str) -> dict[str, Any]:
    """What TensorFlow knows of `GPU:n`: name and compute capability."""
    gpu = tf.config.get_visible_devices("GPU")[int(name.removeprefix("GPU:"))]
    details: dict[str, Any] = tf.config.experimental.get_device_details(gpu)
    return details


def _has_tf32(details: dict[str, Any]) -> bool:
    """From Ampere on, compute capability 8.0."""
    return tuple(details.get("compute_capability", (0, 0))) >= (8, 0)


def _is_tf32_on() -> bool:
    """Whether float32 products are rounded to TF32 on a GPU that has it."""
    is_on = bool(tf.config.experimental.tensor_float_32_execution_enabled())
    return is_on and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"


def shared_settings(config: Config, data: Mapping[str, Any]) -> dict[str, Any]:
    """What all workers of a run must have in common."""
    versions = {"TensorFlow": tf.__version__, "Keras": keras.__version__}
    versions |= {"aelab": aelab.__version__}
    fields = dataclasses.asdict(config) | {"data_dir": ""}
    named = {f"--{name}": value for name, value in fields.items()}
    return named | {f"{name} data": value for name, value in data.items()} | versions
