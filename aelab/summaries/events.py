"""Event files for TensorBoard. They may fail, and training goes on."""

import contextlib
import glob
import os
import re
import time
import uuid
from collections.abc import Callable

import tensorflow as tf
from tensorboard.compat.proto import event_pb2


class EventFile:
    """Writes summaries into a folder; an error is reported once and else passed by."""

    def __init__(self, folder: str, first_step: int, warn: Callable[[str], None]):
        """Takes note of what to do; a file is opened with the first summary.

        Args:
          folder: where TensorBoard looks.
          first_step: what earlier files of the folder have from this step on does not
            count: a run that was killed had gone further than what it had saved.
          warn: is told of the first error.
        """
        self._folder, self._first_step, self._warn = folder, first_step, warn
        self._writer: tf.summary.SummaryWriter | None = None
        self._path, self._size = "", 0
        self._has_warned = False
        self._pause, self._skipped = 0, 0

    def write(self, step: int, summaries: Callable[[], object]) -> None:
        """Writes what `summaries` gives to `tf.summary`, as of `step`.

        After an error it leaves out 1, 2, 4, ... summaries before it tries again.
        """
        if self._skipped < self._pause:
            self._skipped += 1
            return
        try:
            writer = self._writer or self._open()
            with writer.as_default(step=step):
                summaries()
            writer.flush()
            self._check_growth()
        except (OSError, tf.errors.OpError) as error:
            # Its file may end in half a record, after which TensorBoard reads no more.
            self._writer, self._first_step = None, step + 1
            self._pause, self._skipped = 2 * self._pause or 1, 0
            if not self._has_warned:
                self._has_warned = True
                # Without the operation's name before it, and its location behind.
                message = getattr(error, "message", None) or str(error)
                reason = message.partition("\n")[0].rpartition("}} ")[2]
                self._warn(
                    f"can't write event files in {self._folder}: {reason}; "
                    "TensorBoard will lack something, training goes on"
                )

    def close(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            with contextlib.suppress(OSError, tf.errors.OpError):
                self._writer.close()

    def _open(self) -> tf.summary.SummaryWriter:
        """Opens a new file, which tells TensorBoard to forget steps that are redone."""
        self._wait_for_a_later_name()
        suffix = f".{uuid.uuid4().hex}.v2"  # a container's processes share a number
        writer = tf.summary.create_file_writer(self._folder, filename_suffix=suffix)
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        event = event_pb2.Event(step=self._first_step, session_log=start)
        tf.raw_ops.ImportEvent(writer=writer._resource, event=event.SerializeToString())
        writer.flush()
        pattern = os.path.join(glob.escape(self._folder), f"*{suffix}")
        self._path, self._size = next(iter(glob.glob(pattern)), pattern), 0
        self._writer = writer
        self._check_growth()
        return writer

    def _wait_for_a_later_name(self) -> None:
        """Waits, a second at most, until a new file's name comes after all others.

        TensorBoard reads files in the order of their names. They begin with the second,
        within which TensorFlow counts: the file 10 would be read before the file 9.
        """
        names = glob.glob(os.path.join(glob.escape(self._folder), "*tfevents*"))
        seconds = [
            int(n) for name in names for n in re.findall(r"tfevents\.(\d+)", name)
        ]
        time.sleep(min(1.0, max(0.0, max(seconds, default=0) + 1 - time.time())))

    def _check_growth(self) -> None:
        """Raises OSError if the file has not grown: TensorFlow reports no error."""
        size = os.path.getsize(self._path)
        if size <= self._size:
            raise OSError(f"{self._path} can't be written")
        self._size = size
