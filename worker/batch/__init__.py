"""Batch prediction: every row of a data set, answered by one version and written to one file."""
