"""Process, disk and terminal. Imports nothing heavy.

Synopsis:

    from aelab.system.files import write_bytes
    from aelab.system.startup import start_tensorflow

    start_tensorflow()  # imports TensorFlow without its start-up messages
    write_bytes("result.json", b"{}")  # whole or not at all
"""
