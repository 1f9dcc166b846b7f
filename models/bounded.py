"""A call that may hang (names, logins, sockets that drip), given up after a bound. Shell."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def within(bound_s: float, work: Callable[[], T]) -> T:
    """What `work` answers or raises, or `TimeoutError` after `bound_s` seconds.

    Then `work` goes on in its daemon thread with nobody listening: it must do no harm late, and should end by itself.

    >>> within(5.0, lambda: 2 + 2)
    4
    """
    answers: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            answers.append(work())
        except BaseException as e:  # noqa: BLE001 - it is raised where the answer is waited for
            errors.append(e)
        finally:
            done.set()

    threading.Thread(target=run, daemon=True, name="bounded call").start()
    if not done.wait(bound_s):
        raise TimeoutError(f"no answer within {bound_s:g} s")
    if errors:
        raise errors[0]
    return answers[0]
