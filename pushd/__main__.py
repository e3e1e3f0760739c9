"""`python -m pushd` is the command line."""

from pushd.cli import main

if __name__ == "__main__":
    main()
