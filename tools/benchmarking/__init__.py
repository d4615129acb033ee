"""What tools/benchmark.py consists of."""
