"""A language model flies: the autopilot's cockpit in words."""
