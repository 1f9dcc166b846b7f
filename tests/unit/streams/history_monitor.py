"""What a monitor is to those who ask for its warehouse: a process that has the file, and a web server."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from aiohttp import web

from monitoring.duckdb import DuckDBWarehouse
from streams.web_history import WebHistory


async def serve(path: Path) -> None:
    """Until standard input ends."""
    warehouse = DuckDBWarehouse(path)
    history = WebHistory(warehouse, host="127.0.0.1", note=Path(f"{path}.monitor"))
    app = web.Application()
    history.mount(app)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    history.announce(runner.addresses[0][1])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    history.withdraw()
    await runner.cleanup()
    warehouse.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
