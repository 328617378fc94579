"""`python -m edgeft` is the command line."""

from edgeft.cli import main

if __name__ == "__main__":
    main()
