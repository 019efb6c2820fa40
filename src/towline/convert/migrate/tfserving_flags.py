"""The flags of tensorflow_model_server 2.21, and what each is here."""

from __future__ import annotations

from towline.convert.migrate.flags import Flag

_NATURAL = "batching is on and needs no file"
_ENGINE = "ONNX Runtime is set by measurement: a thread per core"
_VERSIONS = "new versions come by `towline import`, or are watched: `towline serve --compat tfserving --model_config_file=…`"
_NO_TLS = "TLS is not served yet: keep the proxy that ends it, or put one in front"

FLAGS = {
    "port": Flag("grpc_port", "gRPC, as there"),
    "rest_api_port": Flag("port", "REST, as there"),
    "grpc_socket_path": Flag("", "no Unix sockets are served"),
    "rest_api_num_threads": Flag("", "one event loop answers; models run in processes of their own"),
    "rest_api_timeout_in_ms": Flag("request_timeout_s"),
    "rest_api_enable_cors_support": Flag("cors_origins", "name the origins: any (*) is what the old flag meant", is_switch=True),
    "enable_batching": Flag("", "batching is always on, and costs nothing at one client", is_switch=True),
    "allow_version_labels_for_unavailable_models": Flag("", "a label is written when its version was imported", is_switch=True),
    "batching_parameters_file": Flag("limits of each deployment", "its fields have rows of their own"),
    "enable_per_model_batching_parameters": Flag("", _NATURAL, is_switch=True),
    "model_config_file": Flag("deployments in the store", "its models have a section each"),
    "model_config_file_poll_wait_seconds": Flag("--model_config_file_poll_wait_seconds", "only where the file is still served from"),
    "model_name": Flag("a deployment in the store"),
    "model_base_path": Flag("a deployment in the store"),
    "num_load_threads": Flag("", "versions load one after another, beside those that answer"),
    "num_unload_threads": Flag("", "unloading ends a process"),
    "max_num_load_retries": Flag("", "a version that cannot be loaded was refused at import"),
    "load_retry_interval_micros": Flag("", "a version that cannot be loaded was refused at import"),
    "file_system_poll_wait_seconds": Flag("towline import, or --model_config_file", _VERSIONS),
    "flush_filesystem_caches": Flag("", "files are read once, at import", is_switch=True),
    "tensorflow_session_parallelism": Flag("", _ENGINE),
    "tensorflow_session_config_file": Flag("", _ENGINE),
    "tensorflow_intra_op_parallelism": Flag("", _ENGINE),
    "tensorflow_inter_op_parallelism": Flag("", _ENGINE),
    "use_alts_credentials": Flag("", _NO_TLS, is_switch=True),
    "ssl_config_file": Flag("", _NO_TLS),
    "platform_config_file": Flag("", "a version says which engine runs it"),
    "per_process_gpu_memory_fraction": Flag("", "workers are measured, and refused when they do not fit"),
    "saved_model_tags": Flag("", "the graph tagged `serve` is imported"),
    "grpc_channel_arguments": Flag("", "limits are settings: max_connections, max_request_bytes"),
    "grpc_max_threads": Flag("", "one event loop answers"),
    "enable_model_warmup": Flag("golden requests", "recorded at import, replayed and compared before a version is ready", is_switch=True),
    "num_request_iterations_for_warmup": Flag("golden requests", "replayed once, and compared"),
    "version": Flag("towline --version", is_switch=True),
    "monitoring_config_file": Flag("/metrics", "always there; point Prometheus at it"),
    "remove_unused_fields_from_bundle_metagraph": Flag("", "the graph is converted at import", is_switch=True),
    "prefer_tflite_model": Flag("", "import the .tflite file itself: `towline import model.tflite`", is_switch=True),
    "num_tflite_pools": Flag("instances"),
    "num_tflite_interpreters_per_pool": Flag("", _ENGINE),
    "enable_signature_method_name_check": Flag("", "classify and regress work on any signature that fits", is_switch=True),
    "xla_cpu_compilation_enabled": Flag("", _ENGINE, is_switch=True),
    "xla_gpu_compilation_enabled": Flag("", _ENGINE, is_switch=True),
    "enable_profiler": Flag("towline bench", "latency by part, measured from outside", is_switch=True),
    "thread_pool_factory_config_file": Flag("", _ENGINE),
    "mixed_precision": Flag("", "a version keeps the types it was imported with"),
    "skip_initialize_tpu": Flag("", "there are no TPUs", is_switch=True),
    "enable_grpc_healthcheck_service": Flag("", "grpc.health.v1 is always served", is_switch=True),
    "enable_serialization_as_tensor_content": Flag("", "answers are packed whenever that is smaller", is_switch=True),
}
