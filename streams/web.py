"""The worker's own small web server: health, readiness, metrics, MLflow's webhook, the monitor's history.

Shell; Faust's server stays off.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from mode import Service

from streams import metrics
from streams.leave import EX_CONFIG, leave

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.group import Group
    from streams.web_history import WebHistory
    from streams.webhook import Refusal, Webhook

WEBHOOK_PATH: Final = "/webhooks/mlflow"
_MOST_BYTES: Final = 64 * 1024
_STATUS: Final[dict[Refusal, int]] = {"unsigned": 401, "bad_signature": 401, "bad_timestamp": 400, "repeated": 409}
"""None of them is one that MLflow tries again after."""


class WebServer(Service):
    """Serves `/healthz`, `/readyz` and `/metrics` in the worker's event loop: if it answers, the loop turns."""

    def __init__(
        self,
        group: Group,
        name: str,
        *,
        host: str,
        port: int,
        webhook: tuple[Webhook, Callable[[], None]] | None = None,
        history: WebHistory | None = None,
        **kwargs: Any,
    ) -> None:
        """`webhook`: what checks calls of `WEBHOOK_PATH`, and what a call that is the registry's own sets going.

        `history`: what answers questions about the warehouse; the monitor's.
        """
        self._group = group
        self._webhook = webhook
        self._history = history
        self._name = name
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None
        super().__init__(**kwargs)

    async def on_start(self) -> None:
        """Listen."""
        app = web.Application(client_max_size=_MOST_BYTES)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        if self._webhook is not None:
            app.router.add_post(WEBHOOK_PATH, self._registry_changed)
        if self._history is not None:
            self._history.mount(app)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as e:
            leave(EX_CONFIG, f"cannot listen on {self._host}:{self._port} ({e.strerror}); set web.port, or give --web-port")
        if self._history is not None:
            self._history.announce(self._runner.addresses[0][1])

    async def on_stop(self) -> None:
        """Stop listening."""
        if self._history is not None:
            self._history.withdraw()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        ready = self._group.ready
        body = {"ready": ready, "group": self._name, "partitions": self._group.assignment(), "lag": self._group.lag()}
        return web.json_response(body, status=200 if ready else 503)

    async def _registry_changed(self, request: web.Request) -> web.Response:
        if self._webhook is None:
            raise web.HTTPNotFound
        webhook, hurry = self._webhook
        refusal = webhook.refusal(request.headers, await request.read(), now_s=time.time())
        metrics.WEBHOOKS.labels(refusal or "taken").inc()
        if refusal is not None:
            return web.json_response({"refused": refusal}, status=_STATUS[refusal])
        hurry()
        return web.json_response({"status": "taken"}, status=202)

    async def _metrics(self, _: web.Request) -> web.Response:
        from prometheus_client import generate_latest

        group, name = self._group, self._name
        metrics.LAG.labels(name).set(group.lag())
        metrics.UNCONFIRMED.labels(name).set(len(group.outbox))
        metrics.READY.labels(name).set(group.ready)
        if group.checkpoint is not None:
            metrics.CHECKPOINT_SECONDS.labels(name).set(group.checkpoint.stats.last_duration_s)
        return web.Response(body=generate_latest(metrics.REGISTRY), content_type="text/plain", charset="utf-8")
