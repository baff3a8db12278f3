"""Files that `leanfuse export` copies as they are."""
