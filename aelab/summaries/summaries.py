"""Training logs: `metrics.jsonl`, TensorBoard summaries, picture panels.

`metrics.jsonl` is a result: if it can't be written, training stops. Pictures and event
files are not: if they can't be written, a warning says so once and training continues.
"""

import os
from collections.abc import Callable, Mapping
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

from aelab.config import Config, to_text
from aelab.metric_info import METRICS
from aelab.runs.directory import SPLITS, RunDirectory
from aelab.summaries.events import EventFile
from aelab.summaries.metrics_log import MetricsLog
from aelab.summaries.panels import draw_panel, encode_png
from aelab.summaries.projector import write_projector
from aelab.system.console import printable, warn
from aelab.system.files import write_bytes

_BUCKETS = 30
_CONFIG = "All choices of this run, as in its `config.json`."
_VARIABLE = "All values of a variable of the model."
_CODE = "All values of the codes of the panel's images."


class Summaries:
    """Writes the logs of one run; to be used in a `with` statement."""

    def __init__(self, run: RunDirectory, keep_until: Mapping[str, int], step: int):
        """Opens the files and drops entries that are ahead of the restored state.

        Args:
          run: where to write.
          keep_until: the last logged steps, by split. Later entries were written by a
            run that was killed.
          step: the step of the restored state.
        """
        self._run = run
        self._metrics = MetricsLog(run.metrics_jsonl, keep_until)
        self._events = {
            split: EventFile(
                os.path.join(run.tensorboard, split),
                keep_until[split] + 1 if step else 0,
                warn,
            )
            for split in SPLITS
        }
        self._failed: set[str] = set()

    def __enter__(self) -> "Summaries":
        return self

    def __exit__(self, *exception: object) -> None:
        self._metrics.close()
        for events in self._events.values():
            events.close()

    def describe(self, config: Config, model: Any) -> None:
        """Writes the configuration (text and hyperparameters) and the model graph.

        TensorBoard joins hyperparameters with the scalars of the same folder, here the
        evaluations. They are not declared, so TensorBoard infers which ones differ
        between runs and lists them first. A row is named after the folder, so
        two runs of one configuration are two rows.
        """
        fields = {
            name: printable(value) if isinstance(value, str) else value
            for name, value in asdict(config).items()
        }
        rows = "\n".join(f"| {name} | {to_text(v)} |" for name, v in fields.items())
        spec = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32, "images")
        graph = tf.function(model.call, autograph=False).get_concrete_function(spec)

        def summaries() -> None:
            """The configuration and the graph."""
            table = f"| field | value |\n|---|---|\n{rows}"
            tf.summary.text("config", table, description=_CONFIG)
            tf.summary.graph(graph.graph)

        self._events["train"].write(0, summaries)
        self._events["eval"].write(0, lambda: hparams.hparams(fields, trial_id=""))

    def scalars(
        self, split: str, step: int, epoch: float, values: Mapping[str, float]
    ) -> None:
        """Writes the metrics of a split, `train` or `eval`, at a step.

        Raises:
          OSError: `metrics.jsonl` can't be written.
        """
        self._metrics.write(split, step, epoch, values)
        # One call for all: a `tf.summary.scalar` takes as long as a step of `dense`.
        merged = summary_pb2.Summary()
        for name, value in values.items():
            if np.isfinite(value):
                text = METRICS[name].description if name in METRICS else None
                merged.MergeFrom(scalar_summary.scalar_pb(name, value, text))
        self._write_raw(split, step, merged)

    def _write_raw(self, split: str, step: int, summary: Any) -> None:
        content = summary.SerializeToString()
        self._events[split].write(
            step, lambda: tf.summary.experimental.write_raw_pb(content)
        )

    def sync(self) -> None:
        """Returns when all lines of `metrics.jsonl` are on disk.

        Raises:
          OSError: they can't be written.
        """
        self._metrics.sync()

    def histograms(
        self, step: int, variables: Mapping[str, np.ndarray], code: np.ndarray
    ) -> None:
        """Writes the distribution of each variable, by its name, and of a code."""
        merged = summary_pb2.Summary()
        for name, values in variables.items():
            _add_histogram(merged, f"weights/{name}", values, _VARIABLE)
        _add_histogram(merged, "code", code, _CODE)
        self._write_raw("eval", step, merged)

    def projector(
        self, codes: np.ndarray, thumbnails: np.ndarray, labels: np.ndarray | None
    ) -> None:
        """Writes the files of TensorBoard's projector, see `write_projector`."""
        folder = os.path.join(self._run.tensorboard, "eval")
        self._try_to(
            "the projector's files",
            lambda: write_projector(folder, codes, thumbnails, labels),
        )

    def image(
        self, tag: str, rows: Mapping[str, np.ndarray], description: str, step: int
    ) -> None:
        """Writes a picture panel as `images/TAG-STEP.png` and for TensorBoard.

        Args:
          tag: name of the panel.
          rows: images by the name of their row, float32 [n, H, W, C] in [0, 1] each.
          description: one sentence, for TensorBoard.
          step: the training step.
        """
        picture = draw_panel([*rows.values()])
        height, width, _ = picture.shape
        png = encode_png(picture, description)
        path = os.path.join(self._run.images, f"{tag}-{step:08d}.png")
        self._try_to("pictures", lambda: write_bytes(path, png))
        # What `tf.summary.image` writes, without encoding the picture a second time.
        image = tf.constant([str(width).encode(), str(height).encode(), png])
        kind = image_summary.create_summary_metadata(None, description)
        self._events["eval"].write(
            step, lambda: tf.summary.write(tag, image, metadata=kind)
        )

    def _try_to(self, what: str, write: Callable[[], None]) -> None:
        """Calls `write`; the first time that it fails, a warning says so."""
        try:
            write()
        except OSError as error:
            if what not in self._failed:
                self._failed.add(what)
                warn(f"can't write {what}: {error}; training continues")


def _add_histogram(
    summary: Any, tag: str, values: np.ndarray, description: str
) -> None:
    """Adds what `tf.summary.histogram` would write, without calling TensorFlow."""
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    counts, edges = np.histogram(values, _BUCKETS)
    if values.size and values.min() == values.max():
        # All in the last bucket, of width 0; NumPy would make the buckets 1 wide.
        counts, edges = np.sort(counts), np.full_like(edges, values[0])
    buckets = np.stack([edges[:-1], edges[1:], counts], axis=1)
    summary.value.add(
        tag=tag,
        metadata=histogram_summary.create_summary_metadata(None, description),
        tensor=tensor_util.make_tensor_proto(buckets, dtype=np.float64),
    )
