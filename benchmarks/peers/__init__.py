"""Other stream frameworks doing the standard job; each in a file as its best-practice user would write it."""
