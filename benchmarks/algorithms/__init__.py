"""Algorithms side by side, held against an optimum that is known exactly."""
