"""Devices and workers.

Synopsis:

    from aelab.distributed.devices import Distribution

    distribution = Distribution(Config(strategy="mirrored"))
    print(distribution.line())  # 2 x GPU (NVIDIA H100), mirrored, float32, ...
"""
