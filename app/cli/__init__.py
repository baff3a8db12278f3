"""The command line: a client of the service, and the commands that start it."""
