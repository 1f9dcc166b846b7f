"""The commands of `trading-ml`, one module each; `streams.cli` puts them together."""
