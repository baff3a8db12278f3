"""Published tables, measured again: job files, what others report, and what a row must show."""
