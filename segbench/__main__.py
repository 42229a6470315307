"""`python -m segbench` does what `segbench` does."""

from segbench.cli import main

if __name__ == "__main__":
    main()
