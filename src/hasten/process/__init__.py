"""Processes: one worker is one event loop; a fleet is a parent with several workers and the managed engines."""
