"""Our descriptors are the ones the clients' own code was generated from, and live beside them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from towline.serve.protocols.grpc.descriptors import Table, file_of
from towline.serve.protocols.grpc.messages import MESSAGES

HERE = Path(__file__).parent


@pytest.mark.parametrize("client", ["tritonclient", "open_inference", "ovmsclient"])
def test_every_field_we_know_has_the_number_and_type_a_client_gives_it(client: str) -> None:
    if importlib.util.find_spec(client) is None:
        pytest.skip(f"{client} is not installed")
    # Each in a process of its own: two of these clients cannot be imported together.
    done = subprocess.run(
        [sys.executable, str(HERE / "beside_client.py"), client], capture_output=True, text=True, timeout=180, check=False
    )

    assert done.returncode == 0, done.stderr[-2000:]
    compared = int(done.stdout)
    assert compared >= 40


def test_a_line_that_is_no_field_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"Odd: 'optional int 3'"):
        file_of(Table("p", "p.proto", {"Odd": ("optional int 3",)}))


def test_a_message_survives_a_round_trip() -> None:
    kind = MESSAGES["inference.ModelInferRequest"]
    request = kind(model_name="m", inputs=[{"name": "x", "datatype": "FP32", "shape": [1, -1]}], raw_input_contents=[b"\0" * 4])
    request.parameters["priority"].int64_param = 3

    again = kind.FromString(request.SerializeToString())

    assert again == request
    assert again.parameters["priority"].WhichOneof("parameter_choice") == "int64_param"
