"""Stages of the road: pre-training, supervised fine-tuning and the demonstration."""
