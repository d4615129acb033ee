"""A TensorBoard profile of some steps: which operation takes how long, where, when."""

import tensorflow as tf

from aelab.system.console import warn


class Profile:
    """Switches TensorFlow's profiler on and off; to be used in a `with` statement."""

    def __init__(self, folder: str):
        """Writes below `folder`, in `plugins/profile`; nothing if it is empty."""
        self._folder = folder
        self._is_on = False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *exception: object) -> None:
        self.run(False)

    def run(self, is_on: bool) -> None:
        """Records what comes next, or writes what was recorded.

        A profile that can't be taken or written is warned of, and training goes on.
        """
        if is_on == self._is_on or not self._folder:
            return
        self._is_on = is_on
        try:
            if is_on:
                tf.profiler.experimental.start(self._folder)
            else:
                tf.profiler.experimental.stop()
        except (tf.errors.OpError, OSError) as error:
            self._is_on = False
            self._folder = ""
            warn(f"no profile could be written: {error}")
