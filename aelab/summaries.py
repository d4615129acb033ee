"""What a run writes to be looked at: `metrics.jsonl`, TensorBoard, panels as PNG."""

import errno
import json
import math
import os
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from aelab.config import Config
from aelab.panels import draw_panel, encode_png
from aelab.run_directory import SPLITS, RunDirectory
from aelab.state import Progress
from aelab.writing import write_bytes

_PANEL = "Rows from the top: clean, corrupted (the model's input), output."
_DESCRIPTIONS = {
    "loss": "What training minimises: the reconstruction loss and the L1 penalty.",
    "psnr": "Mean over images of -10 log10(mse), in dB.",
    "learning_rate": "Learning rate of the last step.",
    "gradient_norm": "Euclidean norm of the gradient before clipping, mean over steps.",
    "loss_scale": "What float16 losses are multiplied by, so that gradients show.",
    "skipped_steps": "Steps skipped so far, as a float16 gradient was not finite.",
    "images_per_second": "Training images a second, evaluations left out.",
    "bce": "Binary cross-entropy, mean over pixels, in nats.",
    "mse": "Squared error, mean over pixels.",
    "ssim": "Structural similarity (Wang et al. 2004), mean over images.",
}


class Summaries:
    """Writes figures and pictures of one run; to be used in a `with` statement."""

    def __init__(self, run: RunDirectory, progress: Progress):
        """Opens the files, and drops figures that are ahead of the state.

        Args:
          run: where to write.
          progress: up to where lines count; a killed run may have gone further.
        """
        self._run = run
        keep_before = {"train": progress.logged_step, "eval": progress.evaluated_step}
        _drop_lines(run.metrics_jsonl, keep_before)
        self._writers = {
            split: tf.summary.create_file_writer(os.path.join(run.tensorboard, split))
            for split in SPLITS
        }
        # Unbuffered: what could not be written is not tried again when it is closed.
        self._metrics = open(run.metrics_jsonl, "ab", buffering=0)  # noqa: SIM115

    def __enter__(self) -> "Summaries":
        return self

    def __exit__(self, *exception: object) -> None:
        self._metrics.close()
        for writer in self._writers.values():
            writer.close()

    def describe(self, config: Config, model: Any) -> None:
        """Writes the configuration (text and hyperparameters) and the model graph."""
        rows = "\n".join(
            f"| {name} | {value} |" for name, value in asdict(config).items()
        )
        spec = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32, "images")
        graph = tf.function(model.call, autograph=False).get_concrete_function(spec)
        with self._writers["train"].as_default(step=0):
            tf.summary.text("config", f"| field | value |\n|---|---|\n{rows}")
            tf.summary.graph(graph.graph)
            hparams.hparams(asdict(config))

    def scalars(
        self, split: str, step: int, epoch: float, values: dict[str, float]
    ) -> None:
        """Writes the figures of a split, `train` or `eval`, at a step.

        One that is NaN, as all its steps were skipped, is `null` in `metrics.jsonl`.
        """
        line: dict[str, Any] = {"step": step, "epoch": round(epoch, 4), "split": split}
        line |= {name: None if math.isnan(v) else v for name, v in values.items()}
        self._write_line(json.dumps(line).encode() + b"\n")
        with self._writers[split].as_default(step=step):
            for name, value in values.items():
                if math.isnan(value):
                    continue
                tf.summary.scalar(name, value, description=_DESCRIPTIONS.get(name))
        self._writers[split].flush()

    def _write_line(self, line: bytes) -> None:
        path = self._run.metrics_jsonl
        try:
            written = self._metrics.write(line)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        if written != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def panel(
        self, step: int, clean: np.ndarray, corrupted: np.ndarray, output: np.ndarray
    ) -> None:
        """Writes images, float32 [n, H, W, C] each, as a PNG file and a summary."""
        picture = draw_panel([clean, corrupted, output])
        path = os.path.join(self._run.images, f"panel-{step:08d}.png")
        write_bytes(path, encode_png(picture))
        with self._writers["eval"].as_default(step=step):
            tf.summary.image("panel", picture[np.newaxis], description=_PANEL)
        self._writers["eval"].flush()


def _drop_lines(path: str, keep_before: dict[str, int]) -> None:
    """Drops the lines of `metrics.jsonl` after a split's step, and a torn last one."""
    if not os.path.exists(path):
        return
    with open(path, "rb") as file:
        lines = file.read().splitlines(keepends=True)
    kept = [line for line in lines if _is_kept(line, keep_before)]
    if kept != lines:
        write_bytes(path, b"".join(kept))


def _is_kept(line: bytes, keep_before: dict[str, int]) -> bool:
    try:
        values = json.loads(line)
        return line.endswith(b"\n") and values["step"] <= keep_before[values["split"]]
    except (ValueError, KeyError, TypeError):
        return False
