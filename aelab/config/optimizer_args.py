"""The syntax of `--optimizer_args`; the standard library only."""

import math
import re
from collections.abc import Callable

from aelab.errors import UsageError

# Arguments of Keras' optimizers that would bypass the loop, and what to use instead.
RESERVED = {
    "clipnorm": "use --gradient_clip_norm",
    "clipvalue": "use --gradient_clip_norm",
    "ema_momentum": "use --weight_average",
    "ema_overwrite_frequency": "use --weight_average",
    "exclude_layers": "it is a list",
    "global_clipnorm": "use --gradient_clip_norm",
    "gradient_accumulation_steps": "use a larger --batch_size",
    "loss_scale_factor": "--precision=mixed_float16 scales the loss",
    "name": "it has no effect",
    "use_ema": "use --weight_average",
}


def parse(text: str, has_flag: Callable[[str], bool]) -> dict[str, bool | float]:
    """The arguments in `text`, for example `beta_1=0.9,epsilon=1e-6`, by name.

    Args:
      text: `name=value` pairs with commas between them; empty = no arguments.
      has_flag: whether an argument has a flag of its own.

    Raises:
      UsageError: a pair is malformed; a value is not a finite number, true or false; a
        name is given twice; or aelab itself sets that argument.
    """
    arguments: dict[str, bool | float] = {}
    for pair in text.split(",") if text else ():
        name, equals, value = pair.partition("=")
        reason = f"use --{name}" if has_flag(name) else RESERVED.get(name)
        if reason:
            raise UsageError(f"--optimizer_args must not set {name}: {reason}")
        if name in arguments:
            raise UsageError(f"--optimizer_args sets {name} twice")
        try:
            if not equals or not name.isidentifier():
                raise ValueError
            arguments[name] = _number_or_boolean(value)
        except ValueError:
            raise UsageError(
                "--optimizer_args must be name=value with commas between them, each "
                "value a number, true or false, for example beta_1=0.9,epsilon=1e-6; "
                f"not {pair!r}"
            ) from None
    return arguments


def _number_or_boolean(text: str) -> bool | float:
    """A finite number, true or false; raises ValueError for anything else."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return int(text) if re.fullmatch("[+-]?[0-9]+", text) else number
