"""Whole runs with a directory of their own: train, compare, the demonstration, RLHF."""
