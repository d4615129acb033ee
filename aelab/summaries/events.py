"""Event files for TensorBoard. If they fail, training continues."""

import contextlib
import glob
import os
import re
import time
import uuid
from collections.abc import Callable

import tensorflow as tf
from tensorboard.compat.proto import event_pb2

from aelab.system.tensorflow_errors import reason


class EventFile:
    """Writes summaries to a folder; errors are reported once and otherwise ignored."""

    def __init__(self, folder: str, first_step: int, warn: Callable[[str], None]):
        """Prepares writing; the file is opened with the first summary.

        Args:
          folder: where TensorBoard looks.
          first_step: TensorBoard is to forget what earlier files have from this step
            on. They are of a run that was killed after its last checkpoint.
          warn: called with the first error.
        """
        self._folder, self._first_step, self._warn = folder, first_step, warn
        self._writer: tf.summary.SummaryWriter | None = None
        self._path, self._size = "", 0
        self._has_warned = False
        self._pause, self._skipped = 0, 0

    def write(self, step: int, summaries: Callable[[], object]) -> None:
        """Calls `summaries`, which writes to `tf.summary`, at `step`.

        After an error it skips 1, 2, 4, ... summaries before it tries again
        (exponential backoff).
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
            # The file may end in half a record, after which TensorBoard stops reading.
            self._writer, self._first_step = None, step + 1
            self._pause, self._skipped = 2 * self._pause or 1, 0
            if not self._has_warned:
                self._has_warned = True
                self._warn(
                    f"can't write event files in {self._folder}: "
                    f"{reason(error) or error}; "
                    "TensorBoard will be incomplete, training continues"
                )

    def close(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            with contextlib.suppress(OSError, tf.errors.OpError):
                self._writer.close()

    def _open(self) -> tf.summary.SummaryWriter:
        """Opens a new file; TensorBoard will forget the steps that are repeated."""
        self._wait_for_a_later_name()
        suffix = f".{uuid.uuid4().hex}.v2"  # containers may share process numbers
        writer = tf.summary.create_file_writer(
            os.fsencode(self._folder), filename_suffix=suffix
        )
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
        """Waits, at most a second, until the name of a new file sorts last.

        TensorBoard reads files in the order of their names. A name begins with the
        second, followed by TensorFlow's count of files: within a second, file 10 would
        be read before file 9.
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
