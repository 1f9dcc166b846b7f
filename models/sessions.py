"""Trading sessions of an exchange, for the bar grid of a feature set. Shell: reads `exchange-calendars` (extra `calendars`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.errors import SpecError

if TYPE_CHECKING:
    from models.bars import Sessions


def exchange_sessions(exchange: str, *, first: str, last: str) -> Sessions:
    """(open_us, close_us) of every session of an exchange from day `first` to `last` ("YYYY-MM-DD"), both included.

    `exchange` is a code of `exchange-calendars`, such as "XNYS". Give them to `FeatureSetSpec.sessions` when a model is
    published, reaching well beyond the time it will serve: past the last session no bar ends. Early closes and holidays
    are in; days on which trading halted unannounced are as the calendar has them. Raises `SpecError`.

    >>> exchange_sessions("XNYS", first="2024-07-03", last="2024-07-05")  # the 3rd closes early, the 4th is a holiday
    ((1720013400000000, 1720026000000000), (1720186200000000, 1720209600000000))
    """
    try:
        import exchange_calendars
        from exchange_calendars.errors import CalendarError
    except ImportError as e:
        msg = "exchange sessions need the extra `calendars`: pip install 'trading-ml-inference[calendars]'"
        raise SpecError(msg) from e
    try:
        calendar = exchange_calendars.get_calendar(exchange, start=first, end=last)
    except (CalendarError, ValueError) as e:
        msg = f"no sessions of exchange {exchange!r} from {first} to {last}: {e}"
        raise SpecError(msg) from e
    schedule = calendar.schedule
    opens = schedule["open"].astype("datetime64[us, UTC]").astype("int64")
    closes = schedule["close"].astype("datetime64[us, UTC]").astype("int64")
    return tuple((int(o), int(c)) for o, c in zip(opens, closes, strict=True))
