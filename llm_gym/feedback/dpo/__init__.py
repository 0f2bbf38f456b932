"""Direct preference optimisation on stored preferences."""
