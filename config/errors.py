"""Errors of the config package. `streams.errors` shows the whole tree; every message says what to do.

ConfigError    a setting, a settings file or an override is wrong; one line per problem
"""

from __future__ import annotations


class ConfigError(Exception):
    """Settings are wrong: each problem is one line naming key, value and what would be right. Action: correct it and start again.

    >>> print(ConfigError("web.port = 'x': should be a whole number", "web.host is missing"))
    web.port = 'x': should be a whole number
    web.host is missing
    """

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)
