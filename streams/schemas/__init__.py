"""What stands on the topics, for machines to check: a JSON Schema (2020-12) of every record and an AsyncAPI document.

    feature_row, outcome                what producers write; fields that are not named are ignored
    prediction, alert, performance,
    retrain_request                     what the groups write; new fields may be added, `schema_version` counts what breaks
    model_timeline                      which version serves from when on; other fields are refused
    serving_spec                        the artifact `serving_spec.json` of a model version; other fields are refused
    rejected_headers                    headers of the rejected topic, whose values are the original bytes
    feature_frame, prediction_frame,
    inference_log                       no JSON Schemas: fields and metadata of Arrow streams
    asyncapi                            all topics: names, keys, partitions, headers, and which of these they carry

The schemas keep to keywords that mean the same in draft-07, so that AsyncAPI tools read them too. Shell: reads files.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

NAMES = (
    "feature_row",
    "feature_frame",
    "outcome",
    "prediction",
    "prediction_frame",
    "alert",
    "performance",
    "retrain_request",
    "model_timeline",
    "serving_spec",
    "rejected_headers",
    "inference_log",
    "asyncapi",
)


def load(name: str) -> dict[str, Any]:
    """One of `NAMES`, read anew at each call; raises `ValueError` for another name.

    >>> load("prediction")["title"]
    'Prediction'
    >>> load("signal")
    Traceback (most recent call last):
    ...
    ValueError: no schema 'signal'; there are feature_row, feature_frame, outcome, prediction, ..., asyncapi
    """
    if name not in NAMES:
        raise ValueError(f"no schema {name!r}; there are {', '.join(NAMES)}")
    here = files(__package__)
    if name == "asyncapi":
        import yaml

        document: dict[str, Any] = yaml.safe_load((here / "asyncapi.yaml").read_text(encoding="utf-8"))
        return document
    schema: dict[str, Any] = json.loads((here / f"{name}.json").read_text(encoding="utf-8"))
    return schema
