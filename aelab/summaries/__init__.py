"""What is written to be looked at."""
