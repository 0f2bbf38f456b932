"""Conversations whose optimum is known: games small enough to solve over all that can be known."""
