"""TensorBoard profiles: how long each operation of some steps takes."""

import os

import tensorflow as tf

from aelab.system.console import warn
from aelab.system.tensorflow_errors import reason


class Profile:
    """Turns TensorFlow's profiler on and off; to be used in a `with` statement."""

    def __init__(self, folder: str):
        """Writes to `plugins/profile` in `folder`; nothing if `folder` is empty."""
        self._folder = folder
        self._is_on = False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *exception: object) -> None:
        self.run(False)

    def run(self, is_on: bool) -> None:
        """Starts profiling, or stops it and writes the profile.

        If that fails, a warning says so and training continues.
        """
        if is_on == self._is_on or not self._folder:
            return
        self._is_on = is_on
        try:
            if is_on:
                tf.profiler.experimental.start(os.fsencode(self._folder))
            else:
                tf.profiler.experimental.stop()
        except (tf.errors.OpError, OSError) as error:
            self._is_on = False
            self._folder = ""
            warn(f"no profile could be written: {reason(error) or error}")
