"""Every algorithm on problems of `llm_gym/KnownOptimum-v0`, whose optimum is known exactly."""
