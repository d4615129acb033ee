"""What can go wrong, by the exit code that a script answers with."""


class UsageError(ValueError):
    """A flag, configuration, data set or file that can't be used: exit code 2.

    The message names the flag or the file, what was given and what would be right.
    """


class ImageError(RuntimeError):
    """An image that a source can't read, in the midst of its use.

    Training ends by it with exit code 1, what only reads with 2. The message names the
    file in one line; `aelab.data.pipeline.image_error` finds it again in TensorFlow's.
    """


class TrainingError(RuntimeError):
    """Training failed: exit code 1.

    The message says at which step, and what is safe on disk.
    """


class Stopped(Exception):  # noqa: N818  (a request that was met, not an error)
    """A signal asked the run to stop, and it stopped after saving.

    Attributes:
      signal_number: the signal, for the exit code 128 + n.
    """

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal_number = signal_number
