"""The platform itself: topics, windows, pipeline, agents, commands. See docs and `trading-ml --help`."""
