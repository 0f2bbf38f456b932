"""Which RL libraries train on text, with how much glue, and how fast."""
