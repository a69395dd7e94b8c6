"""The command line as a value, for both processes. The rule: it imports nothing heavy, for the parent starts first."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BAD_APP_EXIT_CODE = 78  # EX_CONFIG of sysexits.h: starting again would change nothing
TIMEOUT_EXIT_CODE = 124  # as timeout(1) has it


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says; times in seconds."""

    app: Path
    host: str
    port: int
    grace_s: float
    idle_timeout_s: float
    queue_lease_s: float
    verbose: bool

    def as_arguments(self) -> list[str]:
        """The command line that `parse` reads back."""
        return [
            *("--app", str(self.app), "--host", self.host, "--port", str(self.port), "--grace", str(self.grace_s)),
            *("--idle-timeout", str(self.idle_timeout_s), "--queue-lease", str(self.queue_lease_s)),
            *(["--verbose"] if self.verbose else []),
        ]


def parse(arguments: Sequence[str]) -> Options:
    """Exits with a message for a wrong command line."""
    parser = argparse.ArgumentParser(prog="python -m devtools.devhost", description="A local Azure Functions host.")
    parser.add_argument("--app", type=Path, default=Path(), metavar="DIR", help="folder of host.json (default: here)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=7071, help="0 takes a free one (default: 7071)")
    parser.add_argument(
        "--grace", type=float, metavar="S", default=5.0, help="for running functions at the end (default: 5)"
    )
    parser.add_argument(
        "--idle-timeout", type=float, metavar="S", default=240.0, help="of HTTP requests (default: 240, as in Azure)"
    )
    parser.add_argument(
        "--queue-lease",
        type=float,
        metavar="S",
        default=600.0,
        help="of a queue message in work (default: 600, as in Azure)",
    )
    parser.add_argument("--verbose", action="store_true", help="log every HTTP invocation and what the libraries say")
    given = parser.parse_args(arguments)
    return Options(
        app=given.app.resolve(),
        host=given.host,
        port=given.port,
        grace_s=given.grace,
        idle_timeout_s=given.idle_timeout,
        queue_lease_s=given.queue_lease,
        verbose=given.verbose,
    )
