"""Does a LoRA adapter reach what all weights reach? Held against a known optimum."""
