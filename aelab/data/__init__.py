"""Input: from the number of a step to a batch of images."""
