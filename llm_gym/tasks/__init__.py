"""Built-in tasks as data: prompts, a scorer and the other arguments of the text environment."""
