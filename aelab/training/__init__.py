"""From one update to a whole run."""
