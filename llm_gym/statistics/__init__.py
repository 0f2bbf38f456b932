"""Statistics: bootstrap intervals, best-of-n, laws of over-optimisation, and turning points."""
