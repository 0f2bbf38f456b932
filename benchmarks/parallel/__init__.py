"""What more than one process gives, and what it survives."""
