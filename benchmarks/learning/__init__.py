"""What reward does a CPU second buy?"""
