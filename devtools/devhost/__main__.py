"""`python -m devtools.devhost [--app DIR] [--port 7071] [--host 127.0.0.1]`."""

import sys

from devtools.devhost.options import parse
from devtools.devhost.supervisor import supervise

if __name__ == "__main__":
    sys.exit(supervise(parse(sys.argv[1:])))
