"""The golden spec of a version whose training told all the monitor can use; `wire.spec` is one of before there was more."""

from __future__ import annotations

import msgspec

from models.spec import AdditiveLoss, ColumnReference, LossEstimate, Reconstruction, ServingSpec
from tests.unit.streams import wire


def spec() -> ServingSpec:
    plain = wire.spec()
    known = plain.reference["ret_1"]
    flag = ColumnReference(edges=(), levels=(0.0, 1.0), counts=(700, 290, 0, 10), low=0.0, high=1.0, rho=0.5, cross=0.125)
    weights: dict[str, tuple[float, ...]] = {
        "ret_1": (0.001, -0.002, 0.003, 0.0),
        "vol_20.lag1": (-0.0005, 0.00125, 0.0, 0.0),
        "prediction": (0.0,) * 4,
    }
    return msgspec.structs.replace(
        plain,
        reference={**plain.reference, "ret_1": msgspec.structs.replace(known, cross=0.3), "vol_20.lag1": flag},
        rows_per_instant=12.5,
        reconstruction=Reconstruction(
            center=(0.0005, 0.3, 0.02),
            scale=(0.02, 0.45, 0.01),
            components=((0.6, 0.0, -0.8),),
            error=ColumnReference(edges=(0.25, 0.5), counts=(300, 400, 290, 10), low=0.0, high=2.5),
            explained=0.75,
        ),
        loss_estimate=LossEstimate(
            absolute=AdditiveLoss(intercept=0.015, weights=weights, explained=0.04),
            squared=AdditiveLoss(intercept=0.0005, weights={n: (0.0,) * len(w) for n, w in weights.items()}, explained=0.0),
        ),
    ).check()
