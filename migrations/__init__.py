"""The schema's history. How to add to it: CONTRIBUTING.md, "The database"."""
