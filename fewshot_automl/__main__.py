"""Lets ``python -m fewshot_automl`` do what ``fewshot`` does."""

from fewshot_automl.cli import main

if __name__ == "__main__":
    main()
