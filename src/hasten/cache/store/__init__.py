"""Where entries are kept: memory, disk or Redis, behind one protocol."""
