"""Exceptions, one per exit code."""


class UsageError(ValueError):
    """A flag, configuration, data set or file that can't be used: exit code 2.

    The message names the flag or file, what was given and what would be right.
    """


class BusyError(UsageError):
    """A folder that another process is writing: exit code 2."""


class FormatError(UsageError):
    """A file of a later release of aelab, which is not damaged: exit code 2."""


class ImageError(RuntimeError):
    """An image that a source fails to read while it is in use.

    Training exits with 1 on this error; read-only commands exit with 2. The message
    names the file in one line, which `aelab.data.reading.image_error` finds again in
    TensorFlow's message.
    """


class TrainingError(RuntimeError):
    """Training failed: exit code 1.

    The message gives the step and what is safe on disk.
    """


class Stopped(Exception):  # noqa: N818  (a request that was met, not an error)
    """A signal asked the run to stop, and it stopped after saving.

    Attributes:
      signal_number: n of the exit code 128 + n.
    """

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal_number = signal_number
