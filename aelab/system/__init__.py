"""Process, disk and terminal. Imports nothing heavy.

Synopsis:

    from aelab.system.startup import start_tensorflow

    start_tensorflow()  # imports TensorFlow without its start-up messages
"""
