"""What scripts/benchmark.py consists of."""
