"""Keras optimizers, prepared for gradients that the loop has summed."""

import inspect
from typing import Any

import keras
import tensorflow as tf

from aelab.config import Config
from aelab.config.optimizer_args import RESERVED
from aelab.config.registry import OPTIMIZERS, load
from aelab.errors import UsageError
from aelab.training.schedules import LearningRate

_COUNTS = ("ns_steps",)  # arguments that must be whole numbers


def build_optimizer(config: Config, total_steps: int, step: tf.Variable) -> Any:
    """Builds the Keras optimizer that `config` names.

    Keras' defaults apply, except for the learning rate, AdamW's weight decay and
    `optimizer_args`.

    Args:
      config: the optimizer and its arguments.
      total_steps: length of the run, for the schedule.
      step: int64 variable, the step of the run, which the learning rate follows.
        Keras' own `iterations` counts only the updates, which is what Adam's bias
        correction needs.

    Returns:
      An optimizer whose `apply` takes gradients that are summed over replicas.

    Raises:
      UsageError: the optimizer does not have an argument or refuses its value, or the
        installed Keras does not fit.
    """
    if config.optimizer == "muon" and keras.__version__.startswith("3.12."):
        raise UsageError(
            f"--optimizer=muon fails in Keras {keras.__version__} with TensorFlow: use "
            "a later version, which needs Python 3.11"
        )
    build = load(OPTIMIZERS[config.optimizer], f"--optimizer={config.optimizer}")
    arguments = config.optimizer_arguments()
    arguments = _checked(config.optimizer, build, arguments)
    if config.optimizer == "adamw":  # Loshchilov and Hutter 2019
        arguments["weight_decay"] = config.weight_decay
    rate = LearningRate(config, total_steps)
    try:
        optimizer = build(learning_rate=lambda: rate(step), **arguments)
    except (ValueError, TypeError) as error:
        raise UsageError(f"--optimizer_args={config.optimizer_args}: {error}") from None
    # Keras would sum the gradients over replicas a second time. The loop needs their
    # global norm before the update, which Keras does not expose, so it sums itself.
    # `list` takes the (gradient, variable) pairs and returns them unchanged. (Muon and
    # Nadam still average values that are equal on all replicas, which changes nothing.)
    if not hasattr(optimizer, "_all_reduce_sum_gradients"):
        raise UsageError(
            f"Keras {keras.__version__} sums gradients in a way that this release of "
            "aelab does not know: install an earlier version, see setup.cfg"
        )
    optimizer._all_reduce_sum_gradients = list
    return optimizer


def _checked(optimizer: str, build: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments, in the type of their defaults.

    Raises:
      UsageError: the class does not take one as given.
    """
    parameters = inspect.signature(build).parameters
    kinds = {name: _kind(each.default) for name, each in parameters.items()}
    ours = {"learning_rate", *RESERVED}
    known = [name for name, kind in kinds.items() if kind and name not in ours]
    for name, value in arguments.items():
        if name not in known:
            raise UsageError(
                f"--optimizer_args: {name} is not an argument of --optimizer="
                f"{optimizer} that can be set here; these are {', '.join(known)}"
            )
        if isinstance(value, bool) != (kinds[name] == "true or false"):
            raise UsageError(
                f"--optimizer_args: {name} of --optimizer={optimizer} must be "
                f"{kinds[name]}, not {str(value).lower()}"
            )
        if name in _COUNTS and not isinstance(value, int):
            raise UsageError(
                f"--optimizer_args: {name} must be a whole number, not {value}"
            )
    # Keras takes no whole number for SGD's momentum.
    is_float = {n: isinstance(p.default, float) for n, p in parameters.items()}
    return {n: float(v) if is_float[n] else v for n, v in arguments.items()}


def _kind(default: Any) -> str:
    """What a command line can give for an argument with this default, "" if nothing."""
    if isinstance(default, bool):
        return "true or false"
    return "a number" if default is None or isinstance(default, int | float) else ""
