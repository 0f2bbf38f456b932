"""Every algorithm on tasks of text, whose optimum is not known: scores on held-out prompts."""
