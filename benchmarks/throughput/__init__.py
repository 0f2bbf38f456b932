"""How fast is a token, how much memory does it take, and what do other systems need for it?"""
