"""Methods that fuse several models into one."""
