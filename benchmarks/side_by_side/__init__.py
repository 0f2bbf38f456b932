"""Are our algorithms TRL's, and what does the same reward cost?"""
