"""The light worker, held up before every chunk while a file of its state folder says so: as by a Kafka slow to take records.

Its event loop is free meanwhile, so that fetching goes on as far as it is let.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from config import load_settings
from streams import app
from streams.outbox import Outbox
from tests.broker.light_worker import AtHand

MARK = "slow"
CHUNK_S = 0.5


def main() -> None:
    """Run it."""
    settings = load_settings()
    mark = Path(settings.storage.state_dir) / MARK
    room = Outbox.room

    async def slow_room(outbox: Outbox) -> None:
        if mark.exists():
            await asyncio.sleep(CHUNK_S)
        await room(outbox)

    composition: Any = app
    composition.registry_of = lambda _settings: AtHand()
    outboxes: Any = Outbox
    outboxes.room = slow_room
    app.run_worker(settings, "inference")


if __name__ == "__main__":
    main()
