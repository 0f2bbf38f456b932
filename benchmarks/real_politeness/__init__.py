"""Does a real model learn to write politely on a laptop, and are its answers answers still?"""
