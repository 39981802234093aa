"""`python -m cliplit`."""

from cliplit.cli import main

if __name__ == "__main__":
    main()
