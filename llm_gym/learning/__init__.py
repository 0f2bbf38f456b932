"""Algorithms on whole answers: each a choice of advantage, loss and place of the KL penalty."""
