"""Supervised learning: next-token prediction on plain text, and on answers given their prompts."""
