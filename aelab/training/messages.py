"""Messages of a run: at its start, when it resumes, when it fails and at its end."""

import contextlib
import io
import json
import os
import shlex
import sys
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from aelab.config import Config
from aelab.config.registry import PENALTIES
from aelab.data.corruptions import describe
from aelab.data.permutation import example_indices
from aelab.data.reading import image_error
from aelab.distributed.devices import Distribution
from aelab.errors import TrainingError
from aelab.runs import checkpoints
from aelab.runs.directory import RunDirectory
from aelab.system import tensorflow_errors
from aelab.system.console import say, warn
from aelab.system.files import write_bytes
from aelab.training.plan import Plan
from aelab.training.state import Run, TrainState

_COMPARED = ("tensorflow", "keras")


def last_checkpoint_sentence(run: RunDirectory, distribution: Distribution) -> str:
    """A sentence about what a failed run leaves on disk."""
    if distribution.is_chief:
        return checkpoints.last_checkpoint_sentence(run.latest)
    return "The checkpoints are with worker 0, in its --run_dir"


def status_line(run: RunDirectory, state: TrainState, plan: Plan) -> str:
    """A line about where the run is."""
    step = int(state.step)
    if plan.is_complete(step, state.progress):
        return f"Complete   {run.path}: nothing is left to do"
    return f"Resuming   {run.path} at step {step}" if step else f"Run        {run.path}"


def machine_change(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """A warning for a run that resumes on another machine, "" if it is the same.

    What was not recorded is not compared. On GPUs the processor does not matter.
    """
    names = now.keys() & before.keys() - {"environment", "precision"}
    if now["device_names"]:
        names -= {"cpu", "cpu_model", "instructions", "threads"}
    pairs = {name: (before[name], now[name]) for name in names}
    if isinstance(old := before.get("environment"), dict):
        for name in {*old, *now["environment"]}:
            pairs[name] = (old.get(name), now["environment"].get(name))
    changes = [
        f"{name} {_text(then)} -> {_text(value)}"
        for name, (then, value) in sorted(pairs.items())
        if then != value
    ]
    if not changes:
        return ""
    return (
        f", on another machine than before ({'; '.join(changes)}): from here on, "
        "results match only up to rounding"
    )


def _text(value: Any) -> str:
    """A value of the machine's description for people."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return "unset" if value is None else str(value)


def version_change(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """A warning for a run that resumes with other versions, "" if there are none."""
    changes = [
        f"{name} {before[name]} -> {now[name]}"
        for name in _COMPARED
        if name in before and before[name] != now[name]
    ]
    if not changes:
        return ""
    return (
        f", with other versions than before ({', '.join(changes)}): from here on, "
        "results may differ"
    )


def layer_table(model: Any) -> str:
    """Keras' table of the layers, drawn with characters of standard output's encoding.

    Keras would end the process if standard output were a closed pipe.
    """
    lines: list[str] = []
    unused = io.TextIOWrapper(io.BytesIO(), sys.stdout.encoding)
    with contextlib.redirect_stdout(unused):
        model.summary(80, expand_nested=True, print_fn=lines.append)
    return "".join(lines).rstrip().replace("└ ", "- ").replace("…", "~")


def announce(run: Run, status: str) -> None:
    """Prints a summary of the run."""
    config, plan, splits = run.config, run.plan, run.splits
    say(layer_table(run.state.autoencoder.model))
    shape = " x ".join(map(str, splits.train.image_shape))
    weights = {name: getattr(config, name) for name in (*PENALTIES, "rate_weight")}
    penalties = "".join(f" + {w:g} {name}" for name, w in weights.items() if w)
    targets = "" if config.supervision == "clean" else f" {config.supervision},"
    say(f"""\
Data       {config.dataset}: {len(splits.train):,} images for training, \
{len(splits.eval):,} for {config.eval_part}, {shape}
Task      {targets} corruption {describe(config)}; loss {config.loss}{penalties}, \
{config.optimizer} at {config.learning_rate} ({config.learning_rate_schedule})
Length     {plan.total_steps:,} steps of {config.batch_size} images = \
{plan.epoch(plan.total_steps):.2f} epochs
Devices    {run.distribution.line()}
{status}""")
    if bias := _bias(config):
        warn(bias)


def _bias(config: Config) -> str:
    """A warning if noisy targets are not the clean image on average, else ""."""
    names, is_clipped = config.corruptions(), config.noise_clip
    clipped = [n for n in names if n == "poisson" or (n == "gaussian" and is_clipped)]
    if config.supervision == "clean" or not clipped:
        return ""
    advice = "; --noise_clip=false avoids it" if clipped == ["gaussian"] else ""
    return (
        f"the {clipped[0]} noise is clipped to [0, 1], so near black and white it is "
        f"not 0 on average, and the network learns this error{advice}"
    )


def failure(run: Run, step: int, what: str, detail: str = "") -> TrainingError:
    """The error of a run that fails at `step`; names the step and what is on disk."""
    return TrainingError(
        f"{what} at step {step} (epoch {run.plan.epoch(step):.2f}){detail}. "
        + last_checkpoint_sentence(run.directory, run.distribution)
    )


def failure_on_images(
    run: Run, step: int, what: str, split: str, indices: list[int]
) -> TrainingError:
    """The error if `what` is not finite; `not_finite.json` gets the images' indices."""
    path, detail = run.directory.not_finite_json, f"; the batch's images are {indices}"
    content = {"step": step, "split": split, "image_indices": indices}
    if run.distribution.is_chief:
        with contextlib.suppress(OSError):
            write_bytes(path, json.dumps(content).encode() + b"\n")
            detail = f"; {path} has the indices of the batch's images"
    return failure(run, step, f"{what} is not finite", detail)


def failed_step(run: Run, step: int) -> TrainingError:
    """The error of a step that is not finite, with the images of its batch."""
    config, examples = run.config, len(run.splits.train)
    first = (step - 1) * config.batch_size
    indices = example_indices(
        first, config.batch_size, examples, config.seed, config.shuffle_version
    )
    what = "the loss or its gradient"
    return failure_on_images(run, step, what, "train", indices.numpy().tolist())


def remove_passed_failure(run: Run) -> None:
    """Removes `not_finite.json` if the run has passed its step since."""
    path, state = run.directory.not_finite_json, run.state
    passed = {"train": int(state.step), "eval": state.progress.evaluated_step}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        with open(path, "rb") as file:
            content = json.load(file)
        if passed[content["split"]] >= content["step"]:
            os.remove(path)


# Raised in a worker whose peer died, and TensorFlow's message then.
_PEER_ERRORS = (
    *(tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError),
    tf.errors.DeadlineExceededError,
)
_ABORTED = "Collective ops is aborted by: "


def reason(error: Exception, distribution: Distribution) -> str:
    """The cause of an OSError or an error of TensorFlow, in a sentence."""
    message = str(getattr(error, "message", error))
    if isinstance(error, tf.errors.OpError) and (cause := image_error(error)):
        return cause
    if isinstance(error, OSError) or distribution.workers == 1:
        return tensorflow_errors.reason(error) or message
    detail = (message.partition(_ABORTED)[2] or message).strip().partition("\n")[0]
    if "group" in detail and "size" in detail:
        return f"the workers must have the same number and kind of devices ({detail})"
    if not isinstance(error, _PEER_ERRORS):
        return tensorflow_errors.reason(error) or message
    return (
        f"another worker is gone or can't be reached ({detail.rstrip(':')}); see its "
        "output, and start all workers again with the same commands"
    )


def print_results(run: RunDirectory, best_step: int) -> None:
    """Prints where the results of a run are, and a command to look at them."""
    names = sys.executable, os.path.relpath(sys.executable)
    python = min((name for name in names if os.sep in name), key=len)  # not by PATH
    command = (
        f"-m tensorboard.main --host=localhost --logdir={shlex.quote(run.tensorboard)}"
    )
    say(f"""
Pictures   {run.images}
Metrics    {run.metrics_jsonl}
Weights    {run.best} (step {best_step}), {run.latest}
Curves     {shlex.quote(python)} {command}""")
