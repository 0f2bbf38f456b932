"""What happens to what we want while we optimise what we measure?"""
