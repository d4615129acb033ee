"""Keras optimizers, prepared for gradients that the loop has summed."""

import inspect
from typing import Any

import keras
import tensorflow as tf

from aelab.config import Config
from aelab.config.registry import OPTIMIZERS, load
from aelab.errors import UsageError
from aelab.training.schedules import LearningRate


def build_optimizer(config: Config, total_steps: int, step: tf.Variable) -> Any:
    """Builds the Keras optimizer that `config` names.

    Everything has Keras' default except the learning rate, the weight decay and
    `optimizer_args`.

    Args:
      config: the optimizer and its arguments.
      total_steps: length of the run, for the schedule.
      step: int64 variable, the step of the run. Keras does not count skipped steps in
        its own number of updates, which Adam's bias correction needs; the learning rate
        follows the run.

    Returns:
      An optimizer whose `apply` takes gradients that are summed over replicas.

    Raises:
      UsageError: the optimizer has no such argument, refuses its value, or is broken in
        the installed Keras.
    """
    if config.optimizer == "muon" and keras.__version__.startswith("3.12."):
        raise UsageError(
            f"--optimizer=muon fails in Keras {keras.__version__} with TensorFlow: use "
            "a later version, which needs Python 3.11"
        )
    build = load(OPTIMIZERS[config.optimizer], f"--optimizer={config.optimizer}")
    arguments = config.optimizer_arguments()
    _check_names(config.optimizer, build, arguments)
    if config.optimizer == "adamw":  # Loshchilov and Hutter 2019
        arguments["weight_decay"] = config.weight_decay
    rate = LearningRate(config, total_steps)
    try:
        optimizer = build(learning_rate=lambda: rate(step), **arguments)
    except (ValueError, TypeError) as error:
        raise UsageError(f"--optimizer_args={config.optimizer_args}: {error}") from None
    # Keras would sum the gradients over replicas a second time. The loop needs their
    # global norm before the update, which Keras does not expose, so it sums itself.
    # (Muon and Nadam still average values that are equal on all replicas.)
    optimizer._all_reduce_sum_gradients = list
    return optimizer


def _check_names(optimizer: str, build: Any, arguments: dict[str, Any]) -> None:
    """Raises UsageError if the optimizer's class has no argument of a given name."""
    parameters = inspect.signature(build).parameters
    known = [n for n in parameters if n not in ("learning_rate", "kwargs", "self")]
    if unknown := [name for name in arguments if name not in known]:
        raise UsageError(
            f"--optimizer_args: {unknown[0]} is not an argument of --optimizer="
            f"{optimizer}, which has {', '.join(known)}"
        )
