"""Spans for OpenTelemetry: which requests are recorded, how they travel to a child process, what it makes of them."""
