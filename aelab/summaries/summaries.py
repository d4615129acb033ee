"""What a run writes to be looked at: `metrics.jsonl`, TensorBoard, panels as PNG.

`metrics.jsonl` is a result: if it can't be written, training stops. Pictures and event
files are not: if they can't, it warns once and goes on.
"""

import errno
import json
import math
import os
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.histogram import metadata as histogram_summary
from tensorboard.plugins.hparams import api as hparams
from tensorboard.plugins.image import metadata as image_summary
from tensorboard.plugins.scalar import summary_v2 as scalar_summary
from tensorboard.util import tensor_util

from aelab.config import Config
from aelab.data.sources import Source
from aelab.metrics import EVAL_METRICS
from aelab.runs.directory import SPLITS, RunDirectory
from aelab.summaries.events import EventFile
from aelab.summaries.panels import draw_panel, encode_png
from aelab.summaries.projector import write_projector
from aelab.system.console import warn
from aelab.system.files import reporting_size, write_bytes
from aelab.training.state import Progress

_BLOCK = 1 << 16
_BUCKETS = 30
_CONFIG = "Every choice of this run, as in its `config.json`."
_PANEL = "Rows from the top: clean, corrupted (the model's input), output."
_VARIABLE = "All numbers of a variable of the model."
_CODE = "All numbers of the codes of the panel's images."
_DESCRIPTIONS = {
    "loss": "What training minimises: the reconstruction loss and the L1 penalty.",
    "code_bytes": "Bytes of an image's code by the model's prior, mean over images.",
    "learning_rate": "Learning rate of the last step.",
    "gradient_norm": "Euclidean norm of the gradient before clipping, mean over steps.",
    "loss_scale": "What float16 losses are multiplied by, so that gradients show.",
    "skipped_steps": "Steps skipped so far, as a float16 gradient was not finite.",
    "images_per_second": "Training images a second, evaluations left out.",
    "input_wait": "Share of the training time spent waiting for batches, 0 to 1.",
}
# A metric is described by the first line of its docstring.
_DESCRIPTIONS |= {
    name: f"{(metric.__doc__ or name).splitlines()[0]} The mean over images."
    for name, metric in EVAL_METRICS.items()
}


class Summaries:
    """Writes figures and pictures of one run; to be used in a `with` statement."""

    def __init__(self, run: RunDirectory, progress: Progress, step: int):
        """Opens the files, and drops figures that are ahead of the state.

        Args:
          run: where to write.
          progress: up to where lines count; a killed run may have gone further.
          step: where the run stands.
        """
        self._run = run
        keep_until = {"train": progress.logged_step, "eval": progress.evaluated_step}
        _drop_lines(run.metrics_jsonl, keep_until)
        self._events = {
            split: EventFile(
                os.path.join(run.tensorboard, split),
                keep_until[split] + 1 if step else 0,
                warn,
            )
            for split in SPLITS
        }
        self._has_warned_of_pictures = False
        # Unbuffered: what could not be written is not tried again when it is closed.
        self._metrics = open(run.metrics_jsonl, "ab", buffering=0)  # noqa: SIM115

    def __enter__(self) -> "Summaries":
        return self

    def __exit__(self, *exception: object) -> None:
        self._metrics.close()
        for events in self._events.values():
            events.close()

    def describe(self, config: Config, model: Any) -> None:
        """Writes the configuration (text and hyperparameters) and the model graph.

        TensorBoard's table of runs joins hyperparameters with the scalars of the same
        folder: here those of evaluations. As they are not declared, it finds out itself
        in which of them the runs differ, and shows these first. A row is named after
        the folder, so two runs of one configuration are two rows.
        """
        rows = "\n".join(
            f"| {name} | {value} |" for name, value in asdict(config).items()
        )
        spec = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32, "images")
        graph = tf.function(model.call, autograph=False).get_concrete_function(spec)

        def summaries() -> None:
            table = f"| field | value |\n|---|---|\n{rows}"
            tf.summary.text("config", table, description=_CONFIG)
            tf.summary.graph(graph.graph)

        self._events["train"].write(0, summaries)
        fields = asdict(config)
        self._events["eval"].write(0, lambda: hparams.hparams(fields, trial_id=""))

    def scalars(
        self, split: str, step: int, epoch: float, values: dict[str, float]
    ) -> None:
        """Writes the figures of a split, `train` or `eval`, at a step.

        One that is not finite is `null` in `metrics.jsonl`: all its steps were skipped,
        or their sum is too large.

        Raises:
          OSError: `metrics.jsonl` can't be written.
        """
        line: dict[str, Any] = {"step": step, "epoch": round(epoch, 4), "split": split}
        line |= {name: v if math.isfinite(v) else None for name, v in values.items()}
        self._write_line(json.dumps(line).encode() + b"\n")

        # In one call: a `tf.summary.scalar` each takes as long as a step of `dense`.
        together = summary_pb2.Summary()
        for name, value in values.items():
            if math.isfinite(value):
                one = scalar_summary.scalar_pb(name, value, _DESCRIPTIONS.get(name))
                together.MergeFrom(one)
        self._write_together(split, step, together)

    def _write_together(self, split: str, step: int, together: Any) -> None:
        content = together.SerializeToString()
        self._events[split].write(
            step, lambda: tf.summary.experimental.write_raw_pb(content)
        )

    def _write_line(self, line: bytes) -> None:
        with reporting_size(self._run.metrics_jsonl, len(line)):
            if self._metrics.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self) -> None:
        """Returns when all lines of `metrics.jsonl` are on disk.

        Raises:
          OSError: they can't be written.
        """
        with reporting_size(self._run.metrics_jsonl, 0):
            os.fsync(self._metrics.fileno())

    def histograms(
        self, step: int, variables: dict[str, np.ndarray], code: np.ndarray
    ) -> None:
        """Writes the distribution of each variable, by its name, and of a code."""
        together = summary_pb2.Summary()
        for name, values in variables.items():
            _add_histogram(together, f"weights/{name}", values, _VARIABLE)
        _add_histogram(together, "code", code, _CODE)
        self._write_together("eval", step, together)

    def projector(self, source: Source, config: Config, encoder: Any) -> None:
        """Writes what TensorBoard's projector shows, see `write_projector`."""
        folder = os.path.join(self._run.tensorboard, "eval")
        try:
            write_projector(folder, source, config, encoder)
        except (OSError, tf.errors.OpError) as error:
            reason = getattr(error, "message", error)
            warn(f"can't write the projector's files: {reason}")

    def panel(
        self, step: int, clean: np.ndarray, corrupted: np.ndarray, output: np.ndarray
    ) -> None:
        """Writes images, float32 [n, H, W, C] each, as a PNG file and a summary."""
        picture = draw_panel([clean, corrupted, output])
        height, width, _ = picture.shape
        png = encode_png(picture)
        path = os.path.join(self._run.images, f"panel-{step:08d}.png")
        try:
            write_bytes(path, png)
        except OSError as error:
            if not self._has_warned_of_pictures:
                self._has_warned_of_pictures = True
                warn(f"can't write pictures: {error}; training goes on")

        # What `tf.summary.image` writes, without encoding the picture once more.
        image = tf.constant([str(width).encode(), str(height).encode(), png])
        kind = image_summary.create_summary_metadata(None, _PANEL)
        self._events["eval"].write(
            step, lambda: tf.summary.write("panel", image, metadata=kind)
        )


def _add_histogram(
    summary: Any, tag: str, values: np.ndarray, description: str
) -> None:
    """Adds what `tf.summary.histogram` would write, without a call of TensorFlow."""
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    counts, edges = np.histogram(values, _BUCKETS)
    if values.size and values.min() == values.max():
        # All in the last bucket, of no width, where NumPy would make them 1 wide.
        counts, edges = np.sort(counts), np.full_like(edges, values[0])
    buckets = np.stack([edges[:-1], edges[1:], counts], axis=1)
    summary.value.add(
        tag=tag,
        metadata=histogram_summary.create_summary_metadata(None, description),
        tensor=tensor_util.make_tensor_proto(buckets, dtype=np.float64),
    )


def _drop_lines(path: str, keep_until: dict[str, int]) -> None:
    """Cuts `metrics.jsonl` after its last whole line that is not ahead of the state.

    It is read from its end, as no more lines are dropped than were written since the
    last checkpoint: that costs the same however long the run has been.
    """
    if not os.path.exists(path):
        return
    with open(path, "rb+") as file:
        end = file.seek(0, os.SEEK_END)
        tail = b""
        while True:
            kept = _kept(tail, keep_until, is_whole=len(tail) == end)
            if kept is not None:
                break
            size = min(end, 2 * len(tail) or _BLOCK)
            file.seek(end - size)
            tail = file.read(size)
        length = end - len(tail) + kept
        if length != end:
            file.truncate(length)


def _kept(tail: bytes, keep_until: dict[str, int], is_whole: bool) -> int | None:
    """How many bytes of a file's tail are kept, None if it does not say that."""
    lines = tail.splitlines(keepends=True)
    # The first line of a part may be the end of a longer one.
    for number in reversed(range(0 if is_whole else 1, len(lines))):
        if _is_kept(lines[number], keep_until):
            return sum(map(len, lines[: number + 1]))
    return 0 if is_whole else None


def _is_kept(line: bytes, keep_until: dict[str, int]) -> bool:
    try:
        values = json.loads(line)
        return line.endswith(b"\n") and values["step"] <= keep_until[values["split"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
