"""Rewrite networks: pure functions from layers and arrays to layers and arrays, shared by API and worker."""
