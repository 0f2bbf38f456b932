"""What it costs to keep single tokens."""
