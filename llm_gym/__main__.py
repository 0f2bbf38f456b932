"""`python -m llm_gym`: the command `llm-gym`, where its script is not on the path."""

from llm_gym.cli import main

if __name__ == "__main__":
    main()
