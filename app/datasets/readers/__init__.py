"""One reader for each format: each turns a file into RawRows, and knows nothing of splits or storage."""
