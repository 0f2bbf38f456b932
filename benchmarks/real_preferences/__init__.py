"""Does a reward model learn the ratings of real people, compared with words and people?"""
