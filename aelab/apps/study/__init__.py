"""Studies: many runs, several seeds, one table."""
