"""All metrics: names after OpenTelemetry's GenAI conventions, seconds."""

from __future__ import annotations

from hasten.measure import cost, reported
from hasten.measure.registry import Family

_GEN_AI = (
    "gen_ai_operation_name",
    "gen_ai_provider_name",
    "gen_ai_request_model",
    "gen_ai_response_model",
    "hasten_engine",
)
# The bounds that the conventions ask for (opentelemetry.io, "Semantic conventions for generative AI metrics").
_DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TTFT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_TPOT = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS = tuple(float(4**i) for i in range(14))
# Ours: a stage takes microseconds, an engine minutes.
_STAGE = (
    0.00005,
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    5.0,
    30.0,
)

#: By endpoint: ``gen_ai.operation.name``.
OPERATIONS = {
    "chat": "chat",
    "messages": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}

FAMILIES = (
    Family(
        "hasten_requests_total", "counter", "Requests answered, by path and status.", ("endpoint", "status")
    ),
    Family(
        "hasten_errors_total",
        "counter",
        "Requests that ended with an error, by its code.",
        ("endpoint", "code"),
    ),
    Family(
        "hasten_malformed_requests_total", "counter", "Connections closed for bytes that are not HTTP/1.1."
    ),
    Family(
        "hasten_fallbacks_total",
        "counter",
        "Engines passed over, and why.",
        ("engine", "reason"),
    ),
    Family(
        "hasten_stream_usage_refused_total",
        "counter",
        "Streams whose engine refused to count tokens and was asked again without.",
        ("engine",),
    ),
    Family("hasten_requests_in_flight", "gauge", "Requests being received or answered."),
    Family("hasten_connections", "gauge", "Open client connections."),
    Family("hasten_engine_in_flight", "gauge", "Requests at an engine.", ("engine",)),
    Family("hasten_engine_ready", "gauge", "Workers that may send requests to the engine.", ("engine",)),
    *reported.FAMILIES,
    Family(
        "hasten_request_log_dropped_total",
        "counter",
        "Records of the request log that were dropped, by reason.",
        ("reason",),
    ),
    Family("hasten_settings_reloads_total", "counter", "Reloads of the settings, by outcome.", ("outcome",)),
    Family("gen_ai_server_request_duration_seconds", "histogram", "End to end (E2E).", _GEN_AI, _DURATION),
    Family(
        "gen_ai_server_time_to_first_token_seconds", "histogram", "TTFT of streamed answers.", _GEN_AI, _TTFT
    ),
    Family(
        "gen_ai_server_time_per_output_token_seconds",
        "histogram",
        "TPOT, one value a request.",
        _GEN_AI,
        _TPOT,
    ),
    Family(
        "gen_ai_client_token_usage",
        "histogram",
        "Tokens a request.",
        (*_GEN_AI, "gen_ai_token_type"),
        _TOKENS,
    ),
    Family(
        "hasten_stage_duration_seconds",
        "histogram",
        "Time in a stage; of a request they add up to its duration.",
        ("stage",),
        _STAGE,
    ),
    Family(
        "hasten_cache_requests_total", "counter", "Requests, by what the cache did.", ("endpoint", "outcome")
    ),
    Family("hasten_cache_bypassed_total", "counter", "Look-ups left out or failed, and why.", ("reason",)),
    Family("hasten_cache_unstored_total", "counter", "Answers that were not kept, and why.", ("reason",)),
    Family("hasten_cache_saved_seconds_total", "counter", "What hits would have taken at the engine."),
    Family(
        "hasten_cache_saved_tokens_total",
        "counter",
        "Tokens of answers served as hits.",
        ("gen_ai_token_type",),
    ),
    Family(
        "hasten_cache_renewals_total",
        "counter",
        "Stale answers asked for anew in the background: answered, or the error's code.",
        ("outcome",),
    ),
    Family(
        "hasten_cache_renewal_tokens_total",
        "counter",
        "Tokens that renewals took at the engine.",
        ("gen_ai_token_type",),
    ),
    Family(
        "hasten_cache_semantic_verdicts_total",
        "counter",
        "Semantic look-ups with a candidate: hit, held by the holdback, refused.",
        ("verdict",),
    ),
    Family(
        "hasten_cache_compared_total",
        "counter",
        "Fresh answers of the holdback against the cached: same, different, unclear.",
        ("verdict",),
    ),
    Family(
        "hasten_cache_false_hit_rate",
        "gauge",
        "Share of different answers among those compared, with its 95% Wilson interval.",
        ("bound",),
    ),
    Family("hasten_cache_semantic_share", "gauge", "Workers' semantic dials, 0 to 1 each, added up."),
    Family("hasten_cache_entries", "gauge", "Entries in the store."),
    Family("hasten_cache_bytes", "gauge", "Bytes that count against cache.max_bytes."),
    Family("hasten_cache_evictions_total", "counter", "Entries put out to make room."),
    Family(
        "hasten_route_requests_total",
        "counter",
        "Requests for a routed name, by the tier chosen and why.",
        ("model", "tier", "reason"),
    ),
    Family(
        "hasten_route_named_total",
        "counter",
        "Chats led by a named route, and how it was found; without a route: why none was looked for.",
        ("route", "how"),
    ),
    Family("hasten_route_dial", "gauge", "Workers' routing dials, 0 to 1 each, added up.", ("model",)),
    Family(
        "hasten_route_threshold",
        "gauge",
        "Workers' scores above which the strongest tier is chosen, added up.",
        ("model",),
    ),
    Family(
        "hasten_route_measured_total",
        "counter",
        "Routed requests by side of the dial and by measure: their count, sum and sum of squares.",
        ("model", "side", "measure", "moment"),
    ),
    Family(
        "hasten_route_effect",
        "gauge",
        "Mean of the requests acted on less that of the holdback, with its 95% Welch interval.",
        ("model", "measure", "bound"),
    ),
    Family(
        "hasten_route_feedback_total",
        "counter",
        "Clients' judgements of routed answers, by the tier that answered.",
        ("model", "tier", "verdict"),
    ),
    Family("hasten_route_learning", "gauge", "Workers that apply a learnt correction.", ("model",)),
    Family(
        "hasten_route_cascade_total",
        "counter",
        "Weak answers judged, by outcome (passed, raised, kept, failed) and why.",
        ("model", "outcome", "reason"),
    ),
    Family(
        "hasten_route_discarded_tokens_total",
        "counter",
        "Tokens of answers that were paid for and not served.",
        ("model", "gen_ai_token_type"),
    ),
    Family(
        "hasten_latency_seconds",
        "summary",
        "Quantiles of e2e, ttft and tpot over sliding windows, off by 1% at most.",
        ("measure", "dimension", "value", "window", "quantile"),
    ),
    Family(
        "hasten_latency_values",
        "gauge",
        "How many values the quantiles are of.",
        ("measure", "dimension", "value", "window"),
    ),
    Family(
        "hasten_slo_goodput_share",
        "gauge",
        "Share of requests that met all their objectives.",
        ("dimension", "value", "window"),
    ),
    Family(
        "hasten_slo_goodput_per_second",
        "gauge",
        "Requests a second that met all their objectives.",
        ("dimension", "value", "window"),
    ),
    Family(
        "hasten_slo_burn_rate",
        "gauge",
        "How many times faster than allowed an error budget is spent.",
        ("dimension", "value", "objective", "window"),
    ),
    Family(
        "hasten_slo_budget_left",
        "gauge",
        "What is left of the error budget of three days; below 0: overspent.",
        ("dimension", "value", "objective"),
    ),
    Family(
        "hasten_slo_alert",
        "gauge",
        "Whether an alert fires, by its severity.",
        ("dimension", "value", "objective", "severity"),
    ),
    *cost.FAMILIES,
    Family("hasten_budget_overspent_total", "counter", "Requests over a stage's budget.", ("stage",)),
    Family("hasten_budget_skipped_total", "counter", "Left out for want of a budget.", ("stage",)),
    Family("hasten_slo_webhook_total", "counter", "Alerts told to slo.webhook, by outcome.", ("outcome",)),
    Family("hasten_otel_exported_total", "counter", "Requests whose spans the collector took."),
    Family("hasten_otel_dropped_total", "counter", "Requests whose spans were lost, and why.", ("reason",)),
    Family("hasten_worker_resident_memory_bytes", "gauge", "RSS of a worker.", ("worker",)),
    Family("hasten_worker_open_fds", "gauge", "Open file descriptors of a worker.", ("worker",)),
    Family("hasten_worker_tasks", "gauge", "Running asyncio tasks of a worker.", ("worker",)),
    Family("hasten_worker_cpu_seconds_total", "counter", "User and system time of a worker.", ("worker",)),
    Family("hasten_worker_start_time_seconds", "gauge", "When a worker started.", ("worker",)),
)
