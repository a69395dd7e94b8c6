"""Run the stand-in as a program: it prints one ready line, then takes faults as JSON lines on the control port.

python -m devtools.eventhubs --port 5672 --hub calls:4 --data .data/eventhubs.log --control 5673
echo '{"rejected_sends": 3}' | nc -N 127.0.0.1 5673
"""

import argparse
import asyncio
import json
from pathlib import Path

from devtools.eventhubs.server import IDLE_TIMEOUT, STANDARD_LIMIT, EventHubsServer


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="devtools.eventhubs", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=5672)
    parser.add_argument("--hub", action="append", required=True, metavar="NAME:PARTITIONS")
    parser.add_argument("--data", type=Path, help="append-only file that keeps the events across restarts")
    parser.add_argument("--max-message-size", type=int, default=STANDARD_LIMIT, help="bytes; Basic tier: 262144")
    parser.add_argument("--idle-timeout", type=float, default=IDLE_TIMEOUT, help="seconds")
    parser.add_argument("--control", type=int, help="port that takes faults, one JSON object per line")
    return parser.parse_args()


async def _main(arguments: argparse.Namespace) -> None:
    hubs = {name: int(count or 1) for name, _, count in (hub.partition(":") for hub in arguments.hub)}
    server = EventHubsServer(
        hubs,
        port=arguments.port,
        max_message_size=arguments.max_message_size,
        idle_timeout=arguments.idle_timeout,
        data=arguments.data,
    )

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            for name, value in json.loads(line).items():
                if name == "drop_connections":
                    server.drop_connections()
                else:
                    setattr(server.faults, name, value)  # Faults has slots: an unknown name is an error
            writer.write(f"{server.faults}\n".encode())
        writer.close()

    async with server:
        if arguments.control is not None:
            await asyncio.start_server(control, "127.0.0.1", arguments.control)
        print(f"ready {server.connection_string}", flush=True)
        await asyncio.Event().wait()


try:
    asyncio.run(_main(_arguments()))
except KeyboardInterrupt:
    print("stopped")
