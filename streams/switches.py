"""Which model version serves which rows of a partition, decided by the partition's own log. Core: no clock, no I/O.

An `Order` (from the topic `model-timeline`) says that a version serves from an event time on. It takes force in a partition
at the `SWITCH` record that the partition's worker appends there once it has loaded the version, so that the decision has an
offset and every replay takes it at the same place:

    from_us = the latest of: the order's effective_from_us, the stream time at the switch + 1, the from_us before + 1
    version of a row = the last one whose from_us <= the row's event time

Rows before the switch are all older than `from_us`, so the version is a function of the event time, ascending, however late
a worker was. A partition that starts at offset 0 has the first champion of each model from before its first record; one
whose state is lost has all orders so. Of each (model, role) the last `KEPT` count: a row older than those is scored by the
oldest champion, and by no challenger or canary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import msgspec

from models.timeline import FROM_THE_START_US
from streams.errors import StateLayoutError
from streams.wire import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from streams.wire import Record

SWITCH: Final = b"application/vnd.trading-ml.switch+json"
"""Content type of a features record that puts an order in force."""

Role = Literal["champion", "challenger", "canary"]
ROLES: Final[tuple[Role, ...]] = ("champion", "challenger", "canary")
KEPT: Final = 2
"""Versions of a (model, role) that count: the one in force and the one before, for rows that come late."""
NOBODY: Final = ""
"""The version of an order after which the role is empty."""
_STORED: Final = 8
"""Of each (model, role) in a table value: more than count, because reading may go on from before some of them."""
_STORED_CHANGES: Final = 64
_BEFORE_ALL: Final = -1


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One entry of the timeline. `seq` counts the orders of a (model, role) from 1; `share` is the canary's, 0 to 1."""

    model: str
    role: Role
    seq: int
    version: str
    effective_from_us: int
    digest: str = ""
    share: float = 0.0
    why: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """What it is known by."""
        return self.model, self.role, self.seq


class Switch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The value of a `SWITCH` record: the order it puts in force."""

    model: str
    role: Role
    seq: int

    @property
    def key(self) -> tuple[str, str, int]:
        """The order's."""
        return self.model, self.role, self.seq


class InForce(NamedTuple):
    """An order as it holds in one partition; `offset`: of its switch, -1 where it held from before the first record."""

    offset: int
    from_us: int
    order: Order


class Grown(NamedTuple):
    """A feature set's windows became deeper at a switch, where they had held this many rows at most."""

    offset: int
    feature_set: str
    depth_rows: int


class Cut(NamedTuple):
    """At a switch a feature set's windows lost these features, and what lay deeper than so many rows; 0: all they had."""

    offset: int
    feature_set: str
    lost: tuple[str, ...]
    depth_rows: int


def is_switch(record: Record) -> bool:
    """Whether the record's header says that it is one."""
    return any(name == CONTENT_TYPE and value == SWITCH for name, value in record.headers)


def switch_bytes(order: Order) -> bytes:
    """The value of the record that puts an order in force."""
    return msgspec.json.encode(Switch(model=order.model, role=order.role, seq=order.seq))


def read_switch(value: bytes | None) -> Switch | None:
    """The switch in a record's value; None if it is none.

    >>> read_switch(b'{"model": "m", "role": "champion", "seq": 2}').key, read_switch(b"{}")
    (('m', 'champion', 2), None)
    """
    try:
        return _switch(value or b"")
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


_switch = msgspec.json.Decoder(Switch).decode


class _Stored(msgspec.Struct, frozen=True):
    orders: list[tuple[int, int, Order]]
    grown: list[tuple[int, str, int]]
    cuts: list[tuple[int, str, tuple[str, ...], int]] = []


class History:
    """What is in force in one partition, by (model, role) in the order it came. Changing it means making another.

    `grown`: where its windows became deeper. Rows that had left them by then are no more known to have come. `cuts`: where
    they lost something, which a symbol's table value from before still has.
    """

    def __init__(self, entries: Iterable[InForce] = (), *, grown: Iterable[Grown] = (), cuts: Iterable[Cut] = ()) -> None:
        self.grown = tuple(grown)
        self.cuts = tuple(cuts)
        self._of: dict[tuple[str, str], tuple[InForce, ...]] = {}
        for e in entries:
            at = e.order.model, e.order.role
            self._of[at] = (*self._of.get(at, ()), e)

    @classmethod
    def starting(cls, orders: Sequence[Order], *, first_offset: int) -> History:
        """Of a partition without state that is read from here on."""
        history = cls()
        for order in sorted(orders, key=lambda o: o.seq):
            first = order.seq == 1 and order.role == "champion"
            if first or first_offset > 0:  # else its switch stands in the log
                held = history._of.get((order.model, order.role), ())
                from_us = max(order.effective_from_us, held[-1].from_us + 1) if held else order.effective_from_us
                history = history._with(InForce(_BEFORE_ALL, FROM_THE_START_US if first else from_us, order))
        return history

    def then(self, order: Order, *, offset: int, stream_time_us: int) -> History:
        """With one more order, whose switch stands at this offset; the same if it, or a later one, is in force."""
        held = self._of.get((order.model, order.role), ())
        if held and held[-1].order.seq >= order.seq:
            return self
        before_us = held[-1].from_us if held else FROM_THE_START_US
        return self._with(InForce(offset, max(order.effective_from_us, stream_time_us + 1, before_us + 1), order))

    def before(self, offset: int) -> History:
        """As it was when reading had come to this offset."""
        return History(
            (e for e in self.entries() if e.offset < offset),
            grown=(g for g in self.grown if g.offset < offset),
            cuts=(c for c in self.cuts if c.offset < offset),
        )

    def offsets_from(self, offset: int) -> list[int]:
        """Offsets of switches at or after this one, ascending."""
        return sorted(e.offset for e in self.entries() if e.offset >= offset)

    def of(self, model: str, role: Role) -> tuple[InForce, ...]:
        """Those that count, in ascending `from_us`."""
        return self._of.get((model, role), ())[-KEPT:]

    def seq(self, model: str, role: Role) -> int:
        """The newest order's number, 0 if there is none."""
        held = self._of.get((model, role), ())
        return held[-1].order.seq if held else 0

    def versions(self, models: Iterable[str], roles: Sequence[Role] = ROLES) -> list[tuple[str, str]]:
        """(model, version) of all that count, of these models and roles: champions first, each once, oldest first."""
        found = ((m, e.order.version) for m in models for role in roles for e in self.of(m, role))
        return list(dict.fromkeys((m, v) for m, v in found if v != NOBODY))

    def pack(self) -> bytes:
        """As a table value: the same bytes for the same, in whatever order it came to be known."""
        orders = [(e.offset, e.from_us, e.order) for _, held in sorted(self._of.items()) for e in held[-_STORED:]]
        grown = [(g.offset, g.feature_set, g.depth_rows) for g in self.grown]
        cuts = [(c.offset, c.feature_set, c.lost, c.depth_rows) for c in self.cuts]
        return b"\x01" + msgspec.json.encode(_Stored(orders, grown, cuts))

    @classmethod
    def unpack(cls, data: bytes) -> History:
        """Read `pack`'s bytes. Raises `StateLayoutError`."""
        wrong = f"layout {data[:1].hex() or 'none'}, this release reads 01"
        if data[:1] == b"\x01":
            try:
                stored = msgspec.json.decode(data[1:], type=_Stored)
                grown, cuts = [Grown(*g) for g in stored.grown], [Cut(*c) for c in stored.cuts]
                return cls((InForce(*e) for e in stored.orders), grown=grown, cuts=cuts)
            except msgspec.MsgspecError as e:
                wrong = str(e)
        raise StateLayoutError(
            f"the partition's versions cannot be read ({wrong}): run the release that wrote them, or delete the state folder "
            "and the windows changelog"
        )

    def entries(self) -> list[InForce]:
        """All that is held, by (model, role) in the order it came."""
        return [e for held in self._of.values() for e in held]

    def changing(self, grown: Iterable[Grown] = (), cuts: Iterable[Cut] = ()) -> History:
        """With windows that became deeper, or lost something."""
        changes = (*self.grown, *grown)[-_STORED_CHANGES:], (*self.cuts, *cuts)[-_STORED_CHANGES:]
        return History(self.entries(), grown=changes[0], cuts=changes[1])

    def _with(self, entry: InForce) -> History:
        other = History(grown=self.grown, cuts=self.cuts)
        other._of = {**self._of}
        at = entry.order.model, entry.order.role
        other._of[at] = (*other._of.get(at, ()), entry)
        return other


def joined_histories(held: bytes, came: bytes) -> bytes:
    """Two table values of a partition's history as one: each says what stands in the log. The second where one cannot be read."""
    try:
        one, other = History.unpack(held), History.unpack(came)
    except StateLayoutError:
        return came
    entries = {e.order.key: e for e in (*one.entries(), *other.entries())}
    by_number = sorted(entries.values(), key=lambda e: e.order.key)
    return History(by_number, grown=sorted({*one.grown, *other.grown}), cuts=sorted({*one.cuts, *other.cuts})).pack()


def switches_due(
    newest: Iterable[Order], partitions: Iterable[int], seq: Callable[[int, str, Role], int], loaded: Collection[tuple[str, str]]
) -> list[tuple[int, Order]]:
    """(partition, order) of the orders that are not in force yet where they could be."""
    return [
        (p, o)
        for o in newest
        if o.version == NOBODY or (o.model, o.version) in loaded
        for p in partitions
        if seq(p, o.model, o.role) < o.seq
    ]
