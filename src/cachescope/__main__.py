"""``python -m cachescope``: the ``cachescope`` command of this interpreter."""

from cachescope.cli import main

if __name__ == "__main__":
    main()
