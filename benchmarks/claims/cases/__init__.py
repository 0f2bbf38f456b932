"""The claims: a file each, with `CLAIMS`, `LOSSES` or both."""
