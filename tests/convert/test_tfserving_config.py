"""TF Serving's own files are read as TF Serving reads them; what cannot be served as written is refused by line or name."""

from __future__ import annotations

import pytest

from towline.convert.tfserving_config import ConfiguredModel, configured_model, read_batching, read_model_config
from towline.core.deployment import Limits, Policy
from towline.core.errors import UsageError

# From TF Serving's guide, with every field that a model may have.
WHOLE = """
# Two models, and more.
model_config_list {
  config {
    name: "my_first_model"
    base_path: "/tmp/my_first_model/"
    model_platform: "tensorflow"
  }
  config: {
    name: 'my_second_model',
    base_path: '/tmp/my_second_model';
    model_type: TENSORFLOW
    model_version_policy { specific { versions: 42 versions: 43 } }
    version_labels { key: "stable" value: 42 }
    version_labels { key: "canary" value: 43 }
    logging_config { log_collector_config { type: "" filename_prefix: "/tmp/log" } sampling_config { sampling_rate: 0.1 } }
  }
  config { name: "all" base_path: "/m/all" model_version_policy { all {} } }
  config { name: "last" base_path: "/m/last" model_version_policy: { latest: { num_versions: 2 } } }
}
"""


def test_a_whole_configuration_is_read() -> None:
    assert read_model_config(WHOLE) == (
        ConfiguredModel("my_first_model", "/tmp/my_first_model"),
        ConfiguredModel("my_second_model", "/tmp/my_second_model", Policy("specific", numbers=(42, 43)), {"stable": 42, "canary": 43}),
        ConfiguredModel("all", "/m/all", Policy("all")),
        ConfiguredModel("last", "/m/last", Policy("latest", count=2)),
    )


def test_an_empty_list_names_no_models() -> None:
    assert read_model_config("model_config_list {}") == read_model_config("") == ()


def config(fields: str) -> str:
    return f'model_config_list {{ config {{ name: "m" base_path: "/m" {fields} }} }}'


REFUSED = {
    "a field misspelt": (config("base_pth: '/x'"), "1:.*base_pth"),
    "braces that do not close": ("model_config_list {", "cannot be read"),
    "an escape that there is not": ('model_config_list { config { name: "\\ensor" } }', "cannot be read"),
    "JSON": ('{"model_config_list": []}', "cannot be read"),
    "a number for a name": ("model_config_list { config { name: 3 } }", "cannot be read"),
    "a policy that names nothing": (config("model_version_policy { specific {} }"), "names no versions"),
    "version zero": (config("model_version_policy { specific { versions: 0 } }"), "names no versions"),
    "two policies": (config("model_version_policy { all {} latest {} }"), "cannot be read"),
    "a name that climbs": ('model_config_list { config { name: "../m" base_path: "/m" } }', "cannot name a model"),
    "a name twice": ('model_config_list { config { name: "m" base_path: "/a" } config { name: "M" base_path: "/b" } }', "configured twice"),
    "a relative path": ('model_config_list { config { name: "m" base_path: "models/m" } }', "absolute path"),
    "no path": ('model_config_list { config { name: "m" } }', "absolute path"),
    "a bucket": ('model_config_list { config { name: "m" base_path: "gs://bucket/m" } }', "gs address"),
    "a label with a slash": (config('version_labels { key: "a/b" value: 1 }'), "labels no version"),
    "a configuration of one's own": ('custom_model_config { type_url: "x/y" }', "custom_model_config"),
    "a file without end": ("#" * (5 << 20), "longer than"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_configuration_is_refused_with_what_is_wrong(name: str) -> None:
    text, said = REFUSED[name]
    with pytest.raises(UsageError, match=said) as raised:
        read_model_config(text)
    assert raised.value.hint


def test_one_model_by_flags_is_held_to_the_same_rules() -> None:
    assert configured_model("m", "/models/m/") == ConfiguredModel("m", "/models/m")
    with pytest.raises(UsageError, match="absolute path"):
        configured_model("m", "models/m")


def test_batching_parameters_become_limits_and_the_rest_is_explained() -> None:
    batching = read_batching("""
        max_batch_size { value: 128 }
        batch_timeout_micros { value: 0 }
        max_enqueued_batches { value: 10 }
        num_batch_threads { value: 8 }
        allowed_batch_sizes: 8
        allowed_batch_sizes: 128
        pad_variable_length_inputs: true
        thread_pool_name { value: "pool" }
        """)

    assert batching.limits == Limits(max_waiting_requests=1280, max_batch=128)
    assert [note.partition(":")[0] for note in batching.notes] == [
        "num_batch_threads",
        "thread_pool_name",
        "allowed_batch_sizes",
        "pad_variable_length_inputs",
    ]


def test_a_timeout_is_told_to_be_needless() -> None:
    (note,) = read_batching("batch_timeout_micros { value: 1000 }").notes
    assert note.startswith("batch_timeout_micros: natural batching")


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("", Limits()),
        ("max_batch_size { value: 64 } max_execution_batch_size { value: 16 }", Limits(max_batch=16)),
        ("max_enqueued_batches { value: 7 }", Limits(max_waiting_requests=7)),
        ("max_batch_size { value: 1000000 }", Limits(max_batch=65_536)),
    ],
)
def test_limits_that_are_not_given_are_the_servers_own(text: str, limits: Limits) -> None:
    assert read_batching(text).limits == limits


@pytest.mark.parametrize(("text", "said"), [("max_batch_size { value: 0 }", "at least 1"), ("max_batch_size: 128", "cannot be read")])
def test_bad_batching_parameters_are_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_batching(text)
