"""Does every causal architecture of `transformers` decode rightly? See `run.py`."""
