"""The version, read by the build and by `llm_gym.__version__`."""

__version__ = "0.2.0"
