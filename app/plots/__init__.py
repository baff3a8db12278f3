"""Figures as SVG, from plain numbers and documents; nothing here reads or writes anything."""
