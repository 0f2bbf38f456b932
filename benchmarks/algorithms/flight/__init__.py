"""Stock algorithms of the same families on the autopilot, where there are no tokens."""
