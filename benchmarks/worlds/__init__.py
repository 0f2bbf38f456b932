"""Do other people's worlds work as environments of tokens, and can they be learnt?"""
