"""Pages of engines' own metrics, cut down; names and labels as the engines document and write them."""

VLLM_V0 = """\
# HELP vllm:num_requests_running Number of requests currently running on GPU.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="m"} 3.0
vllm:num_requests_swapped{model_name="m"} 0.0
vllm:num_requests_waiting{model_name="m"} 2.0
vllm:gpu_cache_usage_perc{model_name="m"} 0.25
vllm:cpu_cache_usage_perc{model_name="m"} 0.0
vllm:cpu_prefix_cache_hit_rate{model_name="m"} -1.0
vllm:gpu_prefix_cache_hit_rate{model_name="m"} 0.5
# TYPE vllm:request_queue_time_seconds histogram
vllm:request_queue_time_seconds_sum{model_name="m"} 1.5
vllm:request_queue_time_seconds_bucket{le="0.3",model_name="m"} 4.0
vllm:request_queue_time_seconds_bucket{le="+Inf",model_name="m"} 5.0
vllm:request_queue_time_seconds_count{model_name="m"} 5.0
"""

#: Two engines behind one address (data parallel), and the older names beside the newer ones.
VLLM_V1 = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 4.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting{engine="1",model_name="m"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.3
vllm:gpu_cache_usage_perc{engine="0",model_name="m"} 0.5
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 1000.0
vllm:prefix_cache_queries_total{engine="1",model_name="m"} 500.0
vllm:prefix_cache_queries_created{engine="0",model_name="m"} 1.7869106011177013e+09
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 100.0
vllm:prefix_cache_hits_total{engine="1",model_name="m"} 50.0
vllm:external_prefix_cache_hits_total{engine="0",model_name="m"} 7.0
vllm:request_queue_time_seconds_count{engine="0",model_name="m"} 10.0
vllm:request_queue_time_seconds_sum{engine="0",model_name="m"} 1.0
vllm:request_prefill_time_seconds_count{engine="0",model_name="m"} 10.0
vllm:request_prefill_time_seconds_sum{engine="0",model_name="m"} 2.0
vllm:request_decode_time_seconds_count{engine="0",model_name="m"} 10.0
vllm:request_decode_time_seconds_sum{engine="0",model_name="m"} 30.0
"""

VLLM_V1_LATER = """\
vllm:num_requests_running{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting{engine="0",model_name="m"} 0.0
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 1400.0
vllm:prefix_cache_queries_total{engine="1",model_name="m"} 500.0
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 400.0
vllm:prefix_cache_hits_total{engine="1",model_name="m"} 50.0
vllm:request_queue_time_seconds_count{engine="0",model_name="m"} 14.0
vllm:request_queue_time_seconds_sum{engine="0",model_name="m"} 1.2
vllm:request_prefill_time_seconds_count{engine="0",model_name="m"} 14.0
vllm:request_prefill_time_seconds_sum{engine="0",model_name="m"} 4.0
vllm:request_decode_time_seconds_count{engine="0",model_name="m"} 12.0
vllm:request_decode_time_seconds_sum{engine="0",model_name="m"} 37.0
"""

SGLANG_OLD = """\
# HELP sglang:token_usage The token usage
# TYPE sglang:token_usage gauge
sglang:token_usage{model_name="meta-llama/Llama-3.1-8B-Instruct"} 0.28
sglang:cache_hit_rate{model_name="meta-llama/Llama-3.1-8B-Instruct"} 0.007507552643049313
sglang:prompt_tokens_total{model_name="meta-llama/Llama-3.1-8B-Instruct"} 8.128902e+06
sglang:num_running_reqs{model_name="meta-llama/Llama-3.1-8B-Instruct"} 162.0
sglang:num_queue_reqs{model_name="meta-llama/Llama-3.1-8B-Instruct"} 2826.0
"""

#: Two data-parallel ranks, the first on two tensor-parallel ones that count the same requests; priorities.
SGLANG_NEW = """\
sglang:num_running_reqs{dp_rank="0",engine_type="unified",model_name="m",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 4.0
sglang:num_running_reqs{dp_rank="0",engine_type="unified",model_name="m",moe_ep_rank="0",pp_rank="0",tp_rank="1"} 4.0
sglang:num_running_reqs{dp_rank="1",engine_type="unified",model_name="m",moe_ep_rank="2",pp_rank="0",tp_rank="2"} 3.0
sglang:num_queue_reqs{dp_rank="0",engine_type="unified",model_name="m",priority="",tp_rank="0"} 5.0
sglang:num_queue_reqs{dp_rank="0",engine_type="unified",model_name="m",priority="1",tp_rank="0"} 2.0
sglang:num_queue_reqs{dp_rank="0",engine_type="unified",model_name="m",priority="2",tp_rank="0"} 3.0
sglang:num_running_reqs_total 100
sglang:token_usage{dp_rank="0",model_name="m",tp_rank="0"} 0.2
sglang:token_usage{dp_rank="1",model_name="m",tp_rank="2"} 0.4
sglang:cache_hit_rate{dp_rank="0",model_name="m",tp_rank="0"} 0.9
sglang:prompt_tokens_total{is_streaming="true",model_name="m"} PROMPT
sglang:cached_tokens_total{cache_source="device",model_name="m"} CACHED
sglang:cached_tokens_total{cache_source="host",model_name="m"} 10
sglang:queue_time_seconds_sum{model_name="m",tp_rank="0"} QUEUED
sglang:queue_time_seconds_count{model_name="m",tp_rank="0"} COUNT
sglang:per_stage_req_latency_seconds_sum{model_name="m",stage="prefill_waiting",tp_rank="0"} 1000
sglang:per_stage_req_latency_seconds_count{model_name="m",stage="prefill_waiting",tp_rank="0"} 1000
sglang:per_stage_req_latency_seconds_sum{model_name="m",stage="prefill_forward",tp_rank="0"} FORWARD
sglang:per_stage_req_latency_seconds_count{model_name="m",stage="prefill_forward",tp_rank="0"} COUNT
"""

LLAMA_OLD = """\
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 100
llamacpp:tokens_predicted_total 1250
# TYPE llamacpp:kv_cache_usage_ratio gauge
llamacpp:kv_cache_usage_ratio 0.125
llamacpp:kv_cache_tokens 64
llamacpp:requests_processing 2
llamacpp:requests_deferred 1
"""

LLAMA_NEW = """\
llamacpp:prompt_tokens_total {prompt}
llamacpp:prompt_tokens_cached_total {cached}
llamacpp:prompt_seconds_total 0.8
llamacpp:tokens_predicted_seconds_total 0.8
llamacpp:requests_processing 4
llamacpp:requests_deferred 46
llamacpp:n_busy_slots_per_decode 3.87
"""

TGI = """\
# TYPE tgi_queue_size gauge
tgi_queue_size 7
# TYPE tgi_batch_current_size gauge
tgi_batch_current_size 4
tgi_request_queue_duration_sum 1.2
tgi_request_queue_duration_count 10
tgi_batch_inference_duration_sum{method="prefill"} 0.9
tgi_batch_inference_duration_count{method="prefill"} 10
"""
