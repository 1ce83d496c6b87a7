"""The metrics of what engines tell of themselves; all others are what the gateway sees."""

from __future__ import annotations

from hasten.measure.registry import Family

FAMILIES = (
    Family("hasten_engine_running", "gauge", "Requests that the engine says it works at.", ("engine",)),
    Family("hasten_engine_waiting", "gauge", "Requests that the engine says wait in it.", ("engine",)),
    Family("hasten_engine_kv_usage", "gauge", "Share of the engine's KV cache in use.", ("engine",)),
    Family("hasten_engine_cached_share", "gauge", "Share of prompts in the engine's cache.", ("engine",)),
    Family(
        "hasten_engine_reported_seconds",
        "gauge",
        "Mean time of a request in a phase, as the engine tells it.",
        ("engine", "phase"),
    ),
    Family("hasten_engine_load_time_seconds", "gauge", "When the engine last told its load.", ("engine",)),
    Family(
        "hasten_engine_load_failed_total",
        "counter",
        "Looks at an engine's own metrics that failed, and why.",
        ("engine", "reason"),
    ),
)
