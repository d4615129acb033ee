"""The measurements and tables of tools/benchmark.py."""
