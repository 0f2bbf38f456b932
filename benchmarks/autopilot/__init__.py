"""Who flies best, does it hold in an engineers' simulator, and what does a step cost?"""
