"""Every SQL statement of the product, the same on SQLite and PostgreSQL."""
