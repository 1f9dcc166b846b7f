"""The demo: real market data, or a generator with known truth, through the whole platform with one command."""
