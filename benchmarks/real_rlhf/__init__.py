"""What happens to a real model's requests when it is trained on real people's ratings?"""
