"""What a critic is worth, against the exact values and against RLOO."""
