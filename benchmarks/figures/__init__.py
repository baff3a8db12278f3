"""Draw the figures of the pages: what a method does, and what its job file came to."""
