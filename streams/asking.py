"""One question about a table of the warehouse, checked, and its answer page by page. Core: Arrow in, Arrow out.

Nothing of SQL comes from outside: tables and columns are those of `monitoring.warehouse.TABLES`, all else is a parameter.
A page goes on after the last row of the page before, by time and then by key, so that pages may be read at any pace, while
rows are added, and no more than one is held.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from monitoring.errors import WarehouseError
from monitoring.warehouse import arrow_schema, table_spec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from monitoring.warehouse import Parameter, Warehouse

FOREVER_US: Final = (1 << 63) - 1
PAGE_ROWS: Final = 50_000
PAGE_BYTES: Final = 8 << 20
"""About as much a page holds at most: 12,500 vectors of 80 columns, 250 performance records of as many."""
_WIDE: Final = {"float64[]": 640, "string[]": 1600, "json": 8000}
"""Bytes of a wide cell, by and large."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Rows of `table` with start_us < time <= end_us, of one model where the table tells them apart."""

    table: str
    start_us: int
    end_us: int
    model: str | None
    columns: tuple[str, ...]

    @classmethod
    def of(
        cls,
        table: str,
        *,
        start_us: int = -FOREVER_US,
        end_us: int = FOREVER_US,
        model: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> Ask:
        """Checked. `columns`: default all of the table's.

        >>> Ask.of("outcomes", columns=["value", "mood"])
        Traceback (most recent call last):
        ...
        monitoring.errors.WarehouseError: table 'outcomes' has no column 'mood'; it has symbol, ts_event_us, horizon_us, ...
        """
        spec = table_spec(table)
        chosen = tuple(spec.columns) if columns is None else tuple(dict.fromkeys(columns))
        for name in chosen:
            if name not in spec.columns:
                raise WarehouseError(f"table {table!r} has no column {name!r}; it has {', '.join(spec.columns)}")
        if not chosen:
            raise WarehouseError(f"no column of table {table!r} is asked for; it has {', '.join(spec.columns)}")
        for at in (start_us, end_us):
            if not -FOREVER_US <= at <= FOREVER_US:
                raise WarehouseError(f"{at} is no time in microseconds since 1970")
        return cls(table, start_us, end_us, model, chosen)

    @property
    def schema(self) -> pa.Schema:
        """Of the answer."""
        import pyarrow as pa

        whole_schema = arrow_schema(self.table)
        return pa.schema([whole_schema.field(name) for name in self.columns])

    @property
    def page_rows(self) -> int:
        """Most rows of a page."""
        kinds = table_spec(self.table).columns
        wide = sum(_WIDE.get(kinds[name], 0) for name in self.columns)
        return min(PAGE_ROWS, PAGE_BYTES // wide) if wide else PAGE_ROWS


def pages(warehouse: Warehouse, ask: Ask, *, most: int | None = None, there: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The answer in pages of at most `most` rows (default `Ask.page_rows`), by time and key; no page where there is no row.

    `there`: the columns the stored table has (`columns_there`), which is asked where it is not known.
    Raises `WarehouseError` where the warehouse refuses.
    """
    most = ask.page_rows if most is None else most
    there, place = columns_there(warehouse, ask.table) if there is None else there, _place(ask)
    if not there:
        return
    wanted = tuple(name for name in dict.fromkeys((*ask.columns, *place)) if name in there)
    in_order = f"ORDER BY {', '.join(place)}"
    after: list[Parameter] = []
    while True:
        if ask.page_rows == PAGE_ROWS:
            page = warehouse.query(*_limited(_select(ask, wanted, after=after), in_order, most))
        else:
            # First where the page ends, then its rows: ordering keys alone reads no vectors of all the rows that follow.
            page = warehouse.query(*_limited(_select(ask, place, after=after), in_order, most))
        if not len(page):
            return
        count, last = len(page), [page[name][-1].as_py() for name in place]
        if ask.page_rows < PAGE_ROWS:
            page = warehouse.query(*_limited(_select(ask, wanted, after=after, upto=last), in_order))
        yield _answered(page, ask)
        if count < most:
            return
        after = last


def _limited(select: tuple[str, list[Parameter]], in_order: str, most: int | None = None) -> tuple[str, list[Parameter]]:
    limit = "" if most is None else f" LIMIT {most:d}"
    return f"{select[0]} {in_order}{limit}", select[1]


def whole(warehouse: Warehouse, ask: Ask) -> pa.Table:
    """The answer in one piece, each key once: for a warehouse where each question costs and keys may stand twice."""
    import pyarrow as pa

    place = _place(ask)
    found = warehouse.query(*_select(ask, tuple(dict.fromkeys((*ask.columns, *place)))))
    numbered = found.append_column("", pa.array(range(len(found)), pa.int64()))
    first = numbered.group_by(list(place), use_threads=False).aggregate([("", "min")])
    return _answered(found.take(first.sort_by([(name, "ascending") for name in place])["_min"]), ask)


def _select(
    ask: Ask, columns: Sequence[str], *, after: Sequence[Parameter] = (), upto: Sequence[Parameter] = ()
) -> tuple[str, list[Parameter]]:
    """The SELECT, and its parameters, of rows after one place and up to another, both left out where empty.

    Names stand bare: in double quotes they are names to DuckDB and texts to BigQuery, and none of ours needs any.
    """
    spec, place = table_spec(ask.table), _place(ask)
    parts: list[str] = []
    parameters: list[Parameter] = []
    if spec.order is not None:
        parts.append(f"{spec.order} > ? AND {spec.order} <= ?")
        parameters += [ask.start_us, ask.end_us]
    if ask.model is not None and "model" in spec.columns:
        parts.append("model = ?")
        parameters.append(ask.model)
    for bound, beyond, last in ((after, ">", ">"), (upto, "<", "<=")):
        if bound:
            # (a, b, c) > (x, y, z) in words every backend knows; the first part lets blocks of other times be passed over.
            parts.append(f"{place[0]} {beyond}= ?")
            parameters.append(bound[0])
            further = []
            for i in range(len(place)):
                signs = ["="] * i + [last if i == len(place) - 1 else beyond]
                further.append(" AND ".join(f"{n} {sign} ?" for n, sign in zip(place, signs, strict=False)))
                parameters += bound[: i + 1]
            parts.append(f"({' OR '.join(f'({p})' for p in further)})")
    where = f" WHERE {' AND '.join(parts)}" if parts else ""
    return f"SELECT {', '.join(columns)} FROM {ask.table}{where}", parameters  # noqa: S608  # all names come from TABLES


def _place(ask: Ask) -> tuple[str, ...]:
    """The columns that put the table's rows in one order."""
    spec = table_spec(ask.table)
    return tuple(dict.fromkeys((*(() if spec.order is None else (spec.order,)), *spec.key)))


def columns_there(warehouse: Warehouse, table: str) -> tuple[str, ...]:
    """Columns the stored table has: a file of an earlier release that is only read may lack some, or the table."""
    found = warehouse.query("SELECT column_name FROM information_schema.columns WHERE table_name = ?", [table])
    return tuple(found["column_name"].to_pylist())


def _answered(page: pa.Table, ask: Ask) -> pa.Table:
    import pyarrow as pa

    schema = ask.schema
    there = set(page.column_names)
    columns: list[Any] = [
        page[f.name].cast(f.type) if f.name in there else pa.chunked_array([pa.nulls(len(page), f.type)]) for f in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
