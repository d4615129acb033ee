"""What the server of `processes` imports, for the processes that it forks.

No device may be looked for here: a process with a GPU in use can't be forked.
"""

from aelab.system.startup import buffered_stderr

with buffered_stderr():
    import aelab.training.run  # noqa: F401
