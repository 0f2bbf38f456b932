"""What an update holds in memory."""
