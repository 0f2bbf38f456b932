"""How near do algorithms come to the optimum of a conversation?"""
