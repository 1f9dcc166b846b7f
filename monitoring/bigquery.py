"""The warehouse in a BigQuery dataset.

Shell; needs the extra `gcp`. Rows go through `tabledata.insertAll` with the row's key as its insert id. BigQuery drops
a repeated insert id only for about a minute, so a row replayed later is stored twice: queries that must not see it twice
take one row per key, for example `QUALIFY ROW_NUMBER() OVER (PARTITION BY prediction_id) = 1`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from monitoring.errors import WarehouseError
from monitoring.warehouse import TABLES, ColumnType, Parameter, conform, table_spec, unique

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from google.cloud import bigquery

ROWS_PER_REQUEST = 500
"""Google's advice for insertAll; with 80-column vectors about 1 MB, of 10 MB allowed."""

_TYPES: dict[ColumnType, tuple[str, str]] = {
    "string": ("STRING", "NULLABLE"),
    "json": ("STRING", "NULLABLE"),
    "int64": ("INT64", "NULLABLE"),
    "float64": ("FLOAT64", "NULLABLE"),
    "bool": ("BOOL", "NULLABLE"),
    "float64[]": ("FLOAT64", "REPEATED"),
    "string[]": ("STRING", "REPEATED"),
}


class BigQueryWarehouse:
    """The tables of `monitoring.warehouse` in `project.dataset`; dataset and tables are made where absent.

    A table of an earlier release gets the columns it lacks. BigQuery may refuse rows that have them for some minutes after.
    """

    def __init__(self, *, project: str, dataset: str, client: bigquery.Client | None = None, timeout_s: float = 30.0) -> None:
        """`client`: for tests and special credentials; by default Google's application default credentials are used."""
        try:
            from google.api_core.exceptions import GoogleAPIError
            from google.auth.exceptions import GoogleAuthError
            from google.cloud import bigquery
        except ImportError as e:
            raise WarehouseError("`database.type: bigquery` needs the extra gcp: install trading-ml-inference[gcp]") from e
        self._api = bigquery
        self._errors = (GoogleAPIError, GoogleAuthError, OSError)
        self._name = f"{project}.{dataset}"
        self._timeout_s = timeout_s
        try:
            self._client = client if client is not None else bigquery.Client(project=project)
            self._client.create_dataset(self._name, exists_ok=True, timeout=timeout_s)
            for name, spec in TABLES.items():
                fields = [bigquery.SchemaField(column, *_TYPES[kind]) for column, kind in spec.columns.items()]
                wanted = bigquery.Table(f"{self._name}.{name}", fields)
                found = self._client.create_table(wanted, exists_ok=True, timeout=timeout_s)
                there = {field.name for field in found.schema}
                lacking = [field for field in fields if field.name in spec.later and field.name not in there]
                if lacking:
                    found.schema = [*found.schema, *lacking]
                    self._client.update_table(found, ["schema"], timeout=timeout_s)
        except self._errors as e:
            raise WarehouseError(f"BigQuery dataset {self._name} cannot be opened: {e}; check `database.*`") from e

    def append(self, table: str, rows: pa.Table | pa.RecordBatch) -> int:
        """Send the rows, at most `ROWS_PER_REQUEST` a request; returns how many were sent and accepted."""
        key, fresh = table_spec(table).key, unique(table, conform(table, rows))
        plain = [{name: _json(value) for name, value in row.items()} for row in fresh.to_pylist()]
        for start in range(0, len(plain), ROWS_PER_REQUEST):
            part = plain[start : start + ROWS_PER_REQUEST]
            ids = ["|".join(str(row[name]) for name in key) for row in part]
            try:
                refused = self._client.insert_rows_json(f"{self._name}.{table}", part, row_ids=ids, timeout=self._timeout_s)
            except self._errors as e:
                raise WarehouseError(f"BigQuery table {self._name}.{table} took no rows: {e}") from e
            if refused:
                first = refused[0]
                raise WarehouseError(
                    f"BigQuery table {self._name}.{table} refused {len(refused)} of {len(part)} rows; "
                    f"row {ids[int(first['index'])]!r}: {first['errors']}"
                )
        return len(plain)

    def query(self, sql: str, parameters: Sequence[Parameter] = ()) -> pa.Table:
        """Run one SELECT; bare table names mean this dataset."""
        api = self._api
        config = api.QueryJobConfig(
            default_dataset=self._name,
            query_parameters=[api.ScalarQueryParameter(None, _parameter_type(value), value) for value in parameters],
        )
        try:
            rows = self._client.query_and_wait(sql, job_config=config, api_timeout=self._timeout_s)
            return rows.to_arrow(create_bqstorage_client=False)
        except self._errors as e:
            raise WarehouseError(f"BigQuery dataset {self._name} refused the query: {e}") from e

    def close(self) -> None:
        """Close the connections."""
        self._client.close()  # type: ignore[no-untyped-call]  # the client library has no annotation there


def _json(value: Any) -> Any:  # any cell
    """A cell as insertAll takes it: floats that JSON has no number for go by name, a null list is an empty one.

    >>> _json([1.0, float("nan"), float("-inf")])
    [1.0, 'NaN', '-Infinity']
    """
    if isinstance(value, list):
        return [_json(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _parameter_type(value: Parameter) -> str:
    if isinstance(value, bool):
        return "BOOL"
    return "INT64" if isinstance(value, int) else "FLOAT64" if isinstance(value, float) else "STRING"
