"""Leanfuse: lean models, fused."""

__version__ = "0.1.0"
