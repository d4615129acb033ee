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
from tensorboard.plugins.hparams import api as hparams

from aelab.config import Config
from aelab.console import warn
from aelab.events import EventFile
from aelab.panels import draw_panel, encode_png
from aelab.run_directory import SPLITS, RunDirectory
from aelab.state import Progress
from aelab.writing import telling_size, write_bytes

_BLOCK = 1 << 16
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
        """Writes the configuration (text and hyperparameters) and the model graph."""
        rows = "\n".join(
            f"| {name} | {value} |" for name, value in asdict(config).items()
        )
        spec = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32, "images")
        graph = tf.function(model.call, autograph=False).get_concrete_function(spec)

        def summaries() -> None:
            tf.summary.text("config", f"| field | value |\n|---|---|\n{rows}")
            tf.summary.graph(graph.graph)
            hparams.hparams(asdict(config))

        self._events["train"].write(0, summaries)

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

        def summaries() -> None:
            for name, value in values.items():
                if math.isfinite(value):
                    tf.summary.scalar(name, value, description=_DESCRIPTIONS.get(name))

        self._events[split].write(step, summaries)

    def _write_line(self, line: bytes) -> None:
        with telling_size(self._run.metrics_jsonl, len(line)):
            if self._metrics.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self) -> None:
        """Returns when all lines of `metrics.jsonl` are on disk.

        Raises:
          OSError: they can't be written.
        """
        with telling_size(self._run.metrics_jsonl, 0):
            os.fsync(self._metrics.fileno())

    def panel(
        self, step: int, clean: np.ndarray, corrupted: np.ndarray, output: np.ndarray
    ) -> None:
        """Writes images, float32 [n, H, W, C] each, as a PNG file and a summary."""
        picture = draw_panel([clean, corrupted, output])
        path = os.path.join(self._run.images, f"panel-{step:08d}.png")
        try:
            write_bytes(path, encode_png(picture))
        except OSError as error:
            if not self._has_warned_of_pictures:
                self._has_warned_of_pictures = True
                warn(f"can't write pictures: {error}; training goes on")

        def summaries() -> None:
            tf.summary.image("panel", picture[np.newaxis], description=_PANEL)

        self._events["eval"].write(step, summaries)


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
