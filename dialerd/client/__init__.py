"""The command line for daily work: a client of the public API, and of nothing else of the daemon."""
