"""The systems a benchmark compares, one file each, all behind the interface of `base.py`."""
