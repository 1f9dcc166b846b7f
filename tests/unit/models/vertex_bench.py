"""An endpoint in front of a local server with version 1 of a small model deployed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.vertex import Endpoint, Scored, served_by_endpoint
from tests.unit.models.vertex_server import Issuer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.handle import ModelHandle
    from tests.unit.models.vertex_server import VertexServer

VALUES = np.array([[0.1, 0.2, 0.3], [np.nan, -0.0, 5e-324], [1e300, 1 / 3, -2.5]])


def summed(x: NDArray[np.float64]) -> NDArray[np.float64]:
    filled = np.where(np.isnan(x), 0.125, x)
    return filled[:, 0] + filled[:, 1] * 3.0 + filled[:, 2]


class Bench:
    """A server with version 1 deployed, the endpoint in front of it, a clock that stands until moved."""

    def __init__(self, server: VertexServer, handle: ModelHandle) -> None:
        self.server, self.local = server, handle
        self.seen: list[Scored] = []
        self.issuer = Issuer()
        """That of the endpoint made last."""
        self.clock_s = 0.0
        self.endpoints: list[Endpoint] = []
        server.deploy(handle, deployed_id="11", vertex_version="1")

    def endpoint(self, **settings: Any) -> Endpoint:
        self.issuer = Issuer()
        made = Endpoint(
            self.server.settings(**settings),
            fetch=self.issuer,
            seen=self.seen.append,
            clock=lambda: self.clock_s,
            wall=self.issuer.clock,
            draw=lambda: 0.0,
        )
        self.endpoints.append(made)
        return made

    def served(self, **settings: Any) -> ModelHandle:
        handle = served_by_endpoint(self.local, self.endpoint(**settings))
        self.server.bodies.clear()
        return handle

    @property
    def by(self) -> list[str]:
        return [s.by for s in self.seen]

    def close(self) -> None:
        for endpoint in self.endpoints:
            endpoint.close()
