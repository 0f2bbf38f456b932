"""Published claims, judged against what is known exactly."""
