"""The devices of a run."""

import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from aelab.config import Config
from aelab.config.registry import XLA_FOR_FLOAT16
from aelab.distributed.blocks import num_blocks
from aelab.distributed.cluster import Cluster
from aelab.distributed.workers import WorkerGroup
from aelab.errors import UsageError
from aelab.system.console import say
from aelab.system.machine import (
    cpu_instructions,
    cpu_model,
    cpu_name,
    rounding_variables,
)
from aelab.system.signals import default_signal_handling
from aelab.system.startup import buffered_stderr
from aelab.system.tensorflow_errors import reason


def _single(config: Config, cluster: Cluster | None) -> tf.distribute.Strategy:
    """The first GPU if there is one, otherwise the CPU."""
    return tf.distribute.get_strategy()


def _mirrored(config: Config, cluster: Cluster | None) -> tf.distribute.Strategy:
    """The devices in `--devices`, or all GPUs, or all CPUs."""
    known = [_short(d.name) for d in tf.config.list_logical_devices()]
    kind = "GPU" if any(name.startswith("GPU") for name in known) else "CPU"
    names = [name for name in known if name.startswith(kind)]
    if config.devices:
        names = config.devices.split(",")
        if not set(names) <= set(known) or len(set(names)) < len(names):
            raise UsageError(
                f"--devices={config.devices} must name some of {','.join(known)}, each "
                "once; --virtual_cpus adds CPUs"
            )
        if len({name.partition(":")[0] for name in names}) > 1:
            raise UsageError(f"--devices={config.devices} must all be of one kind")
    # Without this, two strategies of different sizes in one process (a sweep, a test)
    # would share a collective group. TensorFlow's own tests do the same.
    tf.distribute.MirroredStrategy._collective_key_base += 1000
    return tf.distribute.MirroredStrategy(names)


def _multi_worker(config: Config, cluster: Cluster | None) -> tf.distribute.Strategy:
    """All GPUs of each worker, or one CPU of each."""
    assert cluster
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.index,
        num_accelerators={"GPU": len(tf.config.get_visible_devices("GPU"))},
        rpc_layer="grpc",
    )
    own, workers = cluster.addresses[cluster.index], len(cluster.addresses)
    place = f"{cluster.index} of {workers} at {own}"
    say(f"Worker     {place}; waiting for the others")
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
            f"{reason(error)}"
        ) from None


STRATEGIES: dict[str, Callable[[Config, Cluster | None], tf.distribute.Strategy]] = {
    "single": _single,
    "mirrored": _mirrored,
    "multi_worker": _multi_worker,
}


def _short(name: str) -> str:
    """`GPU:1` for `/job:worker/task:0/device:GPU:1`."""
    return name.rpartition("device:")[2]


class Distribution(WorkerGroup):
    """The devices of a run, and its workers.

    `use_xla` is True if XLA compiles training, see `build_train_loop`. Each replica
    cuts its rows into `blocks` blocks, see `num_blocks`.
    """

    def __init__(self, config: Config, cluster: Cluster | None = None):
        """Initializes the devices; `--strategy=multi_worker` needs a `cluster`.

        Raises:
          UsageError: a device does not exist, the batch can't be cut into equal parts,
            or the workers can't connect.
        """
        super().__init__(STRATEGIES[config.strategy](config, cluster), cluster)
        self._config = config
        is_float16 = (self._kind, config.precision) == ("CPU", "mixed_float16")
        helps = is_float16 and config.model in XLA_FOR_FLOAT16
        self.use_xla = {"auto": helps, "true": True, "false": False}[config.jit_compile]
        replicas = self.strategy.num_replicas_in_sync
        if config.batch_size % replicas:
            below = config.batch_size // replicas * replicas
            sizes = " or ".join(str(n) for n in (below, below + replicas) if n)
            raise UsageError(
                f"--batch_size={config.batch_size} can't be cut into equal parts for "
                f"{replicas} replicas: it must be a multiple of {replicas}, for "
                f"example {sizes}"
            )
        self.blocks = 1
        # Workers set their threads before they know how many rows they get.
        if self._kind == "CPU" and self.workers == 1:
            self.blocks = num_blocks(config.batch_size // replicas)

    @property
    def _devices(self) -> list[str]:
        """The names of this process's devices."""
        if self._config.strategy == "single":
            gpus = tf.config.list_logical_devices("GPU")
            return [_short(gpus[0].name)] if gpus else ["CPU:0"]
        return [_short(name) for name in self.strategy.extended.worker_devices]

    @property
    def _kind(self) -> str:
        return self._devices[0].partition(":")[0]

    def describe(self) -> dict[str, Any]:
        """The devices and settings for `config.json`; only this worker's devices."""
        details = [_gpu_details(n) for n in self._devices if n.startswith("GPU")]
        return {
            "workers": self.workers,
            "replicas": self.strategy.num_replicas_in_sync,
            "devices": self._devices,
            "device_names": [gpu.get("device_name", "GPU") for gpu in details],
            "cpu": cpu_name(),
            "cpu_model": cpu_model(),
            "instructions": cpu_instructions(),
            "threads": tf.config.threading.get_intra_op_parallelism_threads()
            or len(os.sched_getaffinity(0)),
            "environment": rounding_variables(),
            "precision": self._config.precision,
            "xla": self.use_xla,
            "tf32": _use_tf32(details),
        }

    def line(self) -> str:
        """`describe` in one line for people."""
        machine = self.describe()
        names = ", ".join(sorted(set(machine["device_names"])))
        parts = [
            f"{machine['replicas']} x {self._kind}" + (f" ({names})" if names else ""),
            self._config.strategy.replace("_", " "),
            f"{self.workers} workers" if self.workers > 1 else "",
            self._config.precision.replace("_", " "),
            f"TF32 {'on' if machine['tf32'] else 'off'}" if self._kind == "GPU" else "",
            f"XLA {'on' if self.use_xla else 'off'}",
        ]
        return ", ".join(filter(None, parts))


def _gpu_details(name: str) -> dict[str, Any]:
    """Name and compute capability of `GPU:n`."""
    gpu = tf.config.get_visible_devices("GPU")[int(name.removeprefix("GPU:"))]
    details: dict[str, Any] = tf.config.experimental.get_device_details(gpu)
    return details


def _use_tf32(gpus: list[dict[str, Any]]) -> bool:
    """True if a GPU rounds float32 products to TF32, which Ampere introduced."""
    is_on = bool(tf.config.experimental.tensor_float_32_execution_enabled())
    is_on = is_on and os.environ.get("NVIDIA_TF32_OVERRIDE") != "0"
    return is_on and any(gpu.get("compute_capability", ()) >= (8, 0) for gpu in gpus)
