"""The properties and flags of TorchServe 0.12, and what each is here."""

from __future__ import annotations

from towline.convert.migrate.flags import Flag

_TLS = "TLS is not served yet: put a proxy in front that ends it"
_JAVA = "there is no Java here"
_METRICS = "metrics are at /metrics, on the HTTP port"
_CODE = "handlers are imported once, in processes of their own"
_WORKERS = "a version has one worker with a thread per core; `instances` makes more"
_GRPC = "TorchServe's own gRPC is not served; gRPC on 8001 is Open Inference and TF Serving"
_MANAGE = "models are managed by the towline command; clients may load and unload with --model-control explicit, by Open Inference"
_PROCESS = "each model has processes of its own"
_ENV = "settings come from towline.toml, TOWLINE_* and flags"

PROPERTIES = {
    "inference_address": Flag("port", "this machine only, unless --host and --insecure say otherwise"),
    "management_address": Flag("", _MANAGE),
    "metrics_address": Flag("/metrics", _METRICS),
    "grpc_inference_address": Flag("", _GRPC),
    "grpc_management_address": Flag("", _GRPC),
    "grpc_inference_port": Flag("", _GRPC),
    "grpc_management_port": Flag("", _GRPC),
    "grpc_inference_max_connection_age_ms": Flag("", _GRPC),
    "grpc_management_max_connection_age_ms": Flag("", _GRPC),
    "grpc_inference_max_connection_age_grace_ms": Flag("", _GRPC),
    "grpc_management_max_connection_age_grace_ms": Flag("", _GRPC),
    "enable_grpc_ssl": Flag("", _TLS),
    "load_models": Flag("deployments in the store", "its models have a section each"),
    "models": Flag("limits of each deployment", "responseTimeout is held to; the rest has no meaning here"),
    "model_snapshot": Flag("limits of each deployment", "responseTimeout is held to; the rest has no meaning here"),
    "model_store": Flag("versions in the store"),
    "workflow_store": Flag("", "workflows are not served: write a handler that calls the models"),
    "model_server_home": Flag("home", "versions live in the store"),
    "default_workers_per_model": Flag("instances", _WORKERS),
    "default_response_timeout": Flag("request_timeout_s"),
    "default_startup_timeout": Flag("load_timeout_s"),
    "unregister_model_timeout": Flag("drain_timeout_s"),
    "job_queue_size": Flag("max_waiting_requests"),
    "max_request_size": Flag("max_request_bytes"),
    "max_response_size": Flag("", "answers have the size that the signature and max_batch give them"),
    "limit_max_image_pixels": Flag("max_image_pixels", "there is always a bound, and it is a number"),
    "cors_allowed_origin": Flag("cors_origins"),
    "cors_allowed_methods": Flag("", "what the routes take"),
    "cors_allowed_headers": Flag("", "what the protocols use"),
    "keystore": Flag("", _TLS),
    "keystore_pass": Flag("", _TLS),
    "keystore_type": Flag("", _TLS),
    "certificate_file": Flag("", _TLS),
    "private_key_file": Flag("", _TLS),
    "disable_token_authorization": Flag("auth", "no key is asked for until one was made: towline key NAME"),
    "token_expiration_min": Flag("", "keys hold until they are revoked"),
    "enable_model_api": Flag("model_control", "explicit lets clients load and unload, by Open Inference"),
    "allowed_urls": Flag("", "the server fetches no models"),
    "use_env_allowed_urls": Flag("", "the server fetches no models"),
    "install_py_dep_per_model": Flag("", "nothing is installed for a model"),
    "default_service_handler": Flag("", _CODE),
    "service_envelope": Flag("", "bodies are those of the old routes, and of three protocols more"),
    "decode_input_request": Flag("", _CODE),
    "python": Flag("", "a handler names its Python: --python"),
    "blacklist_env_vars": Flag("", "workers get no environment that tells secrets"),
    "enable_metrics_api": Flag("/metrics", _METRICS),
    "metrics_config": Flag("/metrics", _METRICS),
    "metrics_mode": Flag("/metrics", _METRICS),
    "metric_time_interval": Flag("/metrics", _METRICS),
    "model_metrics_auto_detect": Flag("/metrics", _METRICS),
    "disable_system_metrics": Flag("/metrics", _METRICS),
    "system_metrics_cmd": Flag("/metrics", _METRICS),
    "ts_open_inference_protocol": Flag("/v2", "always served"),
    "ts_header_key_sequence_id": Flag("", "sequences are not served"),
    "ts_header_key_sequence_start": Flag("", "sequences are not served"),
    "ts_header_key_sequence_end": Flag("", "sequences are not served"),
    "enable_envvars_config": Flag("", _ENV),
    "number_of_gpu": Flag("device"),
    "number_of_netty_threads": Flag("", _JAVA),
    "netty_client_threads": Flag("", _JAVA),
    "prefer_direct_buffer": Flag("", _JAVA),
    "use_native_io": Flag("", _JAVA),
    "io_ratio": Flag("", _JAVA),
    "vmargs": Flag("", _JAVA),
    "async_logging": Flag("", "the log goes to standard error"),
    "cpp_log_config": Flag("", "the log goes to standard error"),
    "debug": Flag("log_level"),
    "ipex_enable": Flag("", "ONNX Runtime runs what was converted"),
    "ipex_gpu_enable": Flag("", "ONNX Runtime runs what was converted"),
    "cpu_launcher_enable": Flag("", _PROCESS),
    "cpu_launcher_args": Flag("", _PROCESS),
    "initial_worker_port": Flag("", "workers have no ports"),
    "initial_distribution_port": Flag("", "workers have no ports"),
    "version": Flag(),
}
FLAGS = {
    "start": Flag("towline serve", is_switch=True),
    "stop": Flag("", "Ctrl-C or SIGTERM, which waits for what is in flight", is_switch=True),
    "foreground": Flag("", "always in the foreground", is_switch=True),
    "version": Flag("towline --version", is_switch=True),
    "v": Flag("towline --version", is_switch=True),
    "ts-config": Flag("towline.toml", "its properties have rows of their own"),
    "model-store": Flag("versions in the store"),
    "workflow-store": Flag("", "workflows are not served: write a handler that calls the models"),
    "models": Flag("deployments in the store", "its models have a section each"),
    "log-config": Flag("log_level", "the log goes to standard error"),
    "cpp-log-config": Flag("log_level", "the log goes to standard error"),
    "no-config-snapshots": Flag("", "what is served is in the store", is_switch=True),
    "ncs": Flag("", "what is served is in the store", is_switch=True),
    "plugins-path": Flag("", _JAVA),
    "ppath": Flag("", _JAVA),
    "disable-token-auth": Flag("auth", "no key is asked for until one was made: towline key NAME", is_switch=True),
    "enable-model-api": Flag("model_control", "explicit lets clients load and unload, by Open Inference", is_switch=True),
}
# Their values are secrets, which go into no page.
SECRET = ("keystore_pass",)
