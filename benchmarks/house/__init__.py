"""How the house is built, and whether a rebuilding changed what it does."""
