"""Does it work on text that nobody generated for it?"""
