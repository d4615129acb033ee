"""A whole run, from a configuration to a trained model."""

import contextlib
from collections.abc import Callable

import tensorflow as tf

from aelab.config import Config
from aelab.data.pipeline import check_images
from aelab.data.sources import load_splits
from aelab.distributed.cluster import find_cluster
from aelab.distributed.devices import Distribution
from aelab.distributed.worker_log import worker_log
from aelab.distributed.workers import shared_settings
from aelab.errors import TrainingError
from aelab.runs.directory import RunDirectory, package_versions
from aelab.summaries.summaries import Summaries
from aelab.system.console import Console
from aelab.system.signals import StopRequest
from aelab.training import messages
from aelab.training.plan import Plan
from aelab.training.resume import restore
from aelab.training.state import Run, TrainState
from aelab.training.trainer import Trainer


def train_and_evaluate(
    config: Config,
    run_dir: str,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Trains, or resumes, the run that `config` describes.

    Args:
      config: the run.
      run_dir: its folder, created if it does not exist; only worker 0 writes it.
      on_progress: called after each compiled loop with the step and the last step.

    Returns:
      The metrics of the last evaluation of this call; empty if nothing was left to do.

    Raises:
      UsageError: the data, the configuration, the devices and the folder do not fit
        together.
      TrainingError: a loss or gradient is not finite, a file can't be written, or
        another worker is gone.
      tf.errors.OpError: the model does not fit into memory.
      Stopped: SIGTERM or SIGINT came; the state is saved.
    """
    cluster = find_cluster() if config.strategy == "multi_worker" else None
    with worker_log(cluster, run_dir):
        distribution = Distribution(config, cluster)
        directory = RunDirectory(run_dir)
        try:
            with contextlib.ExitStack() as stack:
                run = _prepare(config, directory, distribution, stack)
                return _train(run, on_progress)
        except tf.errors.OpError as error:
            # Not from the training loop: memory, or the workers' start-up handshake.
            if distribution.workers == 1:
                raise
            reason = messages.reason(error, distribution)
            sentence = messages.last_checkpoint_sentence(directory, distribution)
            raise TrainingError(f"{reason}. {sentence}") from None


def _prepare(
    config: Config,
    directory: RunDirectory,
    distribution: Distribution,
    stack: contextlib.ExitStack,
) -> Run:
    """Loads the data, restores the state, announces the run; locks its directory.

    An existing run may be in use, so its lock is taken first. The directory of a new
    run is made only after its input has been checked.
    """
    is_chief = distribution.is_chief
    exists = directory.has_config()
    if is_chief and exists:
        stack.enter_context(directory.exclusive_lock())
    splits = load_splits(config)
    check_images(config, splits.train.image_shape)
    distribution.check_same_settings(shared_settings(config, splits.describe()))
    plan = Plan(config, len(splits.train))
    shape, strategy = splits.train.image_shape, distribution.strategy
    state = TrainState(config, shape, plan.total_steps, strategy)
    if is_chief and not exists:
        stack.enter_context(directory.exclusive_lock())
    if is_chief:
        directory.check(config, splits.describe())
        restore(state, directory, plan)
    state.assign(distribution.broadcast_from_chief(state.arrays()))
    status = messages.status_line(directory, state, plan)
    # A complete run keeps the description of what it was trained on.
    if is_chief and not plan.is_complete(int(state.step), state.progress):
        machine = distribution.describe()
        if int(state.step):
            status += messages.machine_change(directory.read_machine(), machine)
            before, now = directory.read_versions(), package_versions()
            status += messages.version_change(before, now)
        directory.write(config, splits.describe(), machine)
    run = Run(config, directory, distribution, splits, plan, state)
    messages.announce(run, status)
    return run


def _train(
    run: Run, on_progress: Callable[[int, int], None] | None
) -> dict[str, float]:
    """Trains from the step of the restored state."""
    first_step, distribution = int(run.state.step), run.distribution
    progress = run.state.progress
    logged = {"train": progress.logged_step, "eval": progress.evaluated_step}
    try:
        with contextlib.ExitStack() as stack:
            stop = stack.enter_context(StopRequest())
            summaries = None
            if distribution.is_chief:
                summaries = Summaries(run.directory, logged, first_step)
                stack.enter_context(summaries)
            console = Console(first_step, run.plan.total_steps, on_progress)
            stack.enter_context(console)
            if summaries and not first_step:
                summaries.describe(run.config, run.state.autoencoder.model)
            metrics = Trainer(run, summaries, console, stop).train()
            # A worker that exits early looks dead to the others.
            distribution.barrier()
    except (OSError, tf.errors.OpError) as error:
        cause = f": {messages.reason(error, distribution)}"
        step = int(run.state.step)
        raise messages.failure(run, step, "training failed", cause) from None
    if distribution.is_chief:
        messages.print_results(run.directory, run.state.progress.best_step)
    return metrics
