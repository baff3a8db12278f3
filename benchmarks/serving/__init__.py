"""Serving against peers: the same graphs and the same rows, each server in its own environment."""
