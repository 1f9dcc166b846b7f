"""Models: what a version needs to be served, how it is scored, and how it comes from the registry."""
