"""What lies in a run directory."""
