"""What scripts/soak.py consists of."""
