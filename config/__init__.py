"""Settings: a frozen tree from YAML and the environment, checked before anything starts."""

from config.compare import compare_files
from config.effective import Effective, explain
from config.errors import ConfigError
from config.sections import BigqueryDatabase, DuckdbDatabase, ServedModel, Topics
from config.settings import KEYS, Settings, load_settings

__all__ = [
    "KEYS",
    "BigqueryDatabase",
    "ConfigError",
    "DuckdbDatabase",
    "Effective",
    "ServedModel",
    "Settings",
    "Topics",
    "compare_files",
    "explain",
    "load_settings",
]
