"""The worker's own small web server: health, readiness, metrics. Shell; Faust's server stays off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web
from mode import Service

from streams import metrics
from streams.leave import EX_CONFIG, leave

if TYPE_CHECKING:
    from streams.group import Group


class WebServer(Service):
    """Serves `/healthz`, `/readyz` and `/metrics` in the worker's event loop: if it answers, the loop turns."""

    def __init__(self, group: Group, name: str, *, host: str, port: int, **kwargs: Any) -> None:
        self._group = group
        self._name = name
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None
        super().__init__(**kwargs)

    async def on_start(self) -> None:
        """Listen."""
        app = web.Application(client_max_size=64 * 1024)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as e:
            leave(EX_CONFIG, f"cannot listen on {self._host}:{self._port} ({e.strerror}); set web.port, or give --web-port")

    async def on_stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        ready = self._group.ready
        body = {"ready": ready, "group": self._name, "partitions": self._group.assignment(), "lag": self._group.lag()}
        return web.json_response(body, status=200 if ready else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        from prometheus_client import generate_latest

        group, name = self._group, self._name
        metrics.LAG.labels(name).set(group.lag())
        metrics.UNCONFIRMED.labels(name).set(len(group.outbox))
        metrics.READY.labels(name).set(group.ready)
        if group.checkpoint is not None:
            metrics.CHECKPOINT_SECONDS.labels(name).set(group.checkpoint.stats.last_duration_s)
        return web.Response(body=generate_latest(metrics.REGISTRY), content_type="text/plain", charset="utf-8")
