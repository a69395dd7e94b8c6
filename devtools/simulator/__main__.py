"""The command line: `python -m devtools.simulator`."""

import argparse

from devtools.simulator.pacing import Pace
from devtools.simulator.server import serve
from devtools.simulator.settings import Settings


def main() -> None:
    """Serves until Ctrl+C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m devtools.simulator", description="Stands in for (Azure) OpenAI.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--seed", type=int, default=7, help="another seed gives other answers")
    parser.add_argument("--tokens-per-second", type=float, default=200, help="0 is as fast as possible")
    parser.add_argument("--first-token-ms", type=float, default=20)
    parser.add_argument("--background-ms", type=float, default=2000, help="how long a background response takes")
    parser.add_argument("--batch-ms", type=float, default=2000, help="how long a batch job takes")
    parser.add_argument("--key", action="append", default=[], help="accept only this key; repeatable")
    parser.add_argument("--missing-model", action="append", default=["missing-model"], help="answer 404; repeatable")
    parser.add_argument("--no-account", action="store_true", help="keep no account, for long benchmarks")
    given = parser.parse_args()
    settings = Settings(
        seed=given.seed,
        pace=Pace(tokens_per_second=given.tokens_per_second, first_token_ms=given.first_token_ms),
        background_ms=given.background_ms,
        batch_ms=given.batch_ms,
        keys=frozenset(given.key),
        missing_models=frozenset(given.missing_model),
        keep_account=not given.no_account,
    )
    serve(settings, given.host, given.port, lambda base_url: print(f"simulator ready on {base_url}", flush=True))


if __name__ == "__main__":
    main()
