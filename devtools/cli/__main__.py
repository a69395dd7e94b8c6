"""`python -m devtools.cli`."""

import sys

from devtools.cli import main

if __name__ == "__main__":
    sys.exit(main())
