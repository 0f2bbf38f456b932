"""A real language model on two cores: seconds and memory of a batch, and what it learns."""
