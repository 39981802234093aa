"""`python -m cliplit`."""

from cliplit.cli.app import main

if __name__ == "__main__":
    main()
