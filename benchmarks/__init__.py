"""The questions llm_gym is measured by; a folder each, one command each (`run.py`)."""
