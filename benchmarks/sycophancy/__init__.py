"""Do raters who like agreement make a sycophant, how fast, and what mends it?"""
