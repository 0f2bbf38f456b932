"""Runs of an algorithm: callbacks, checkpoints, answers to prompts, and how good they are."""
