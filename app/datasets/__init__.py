"""Reading data sets: untrusted bytes become plain arrays, in a child process that may do nothing else."""
