"""From a step to a batch."""
