"""`ModelService.HandleReloadConfigRequest`: a whole configuration of TF Serving's, which replaces what is served."""

from __future__ import annotations

from typing import Any

from towline.core.errors import InvalidRequest, Kind, TowlineError
from towline.serve.contract import Control, WishedModel
from towline.serve.protocols.grpc.calls import changing
from towline.serve.protocols.grpc.contract import Call, Method
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.status import TF_SERVING

PROTOCOL = "tfserving-grpc"
_MAX_MODELS = 1000


def method(control: Control | None) -> Method:
    async def reload(request: Any, call: Call) -> Any:
        if control is None:
            raise TowlineError("Clients may not replace the configuration here.", code="MODEL_CONTROL_OFF", kind=Kind.DENIED)
        await control.reload(wished_models(request), actor=call.actor(PROTOCOL))
        answer = MESSAGES["tensorflow.serving.ReloadConfigResponse"]()
        # Present, and OK: clients look into it.
        answer.status.SetInParent()
        return answer

    return changing("tensorflow.serving.ReloadConfigRequest", TF_SERVING, reload)


def wished_models(request: Any) -> list[WishedModel]:
    """Raises InvalidRequest for a message without a list, or with one that is no list of models."""
    if request.config.WhichOneof("config") != "model_config_list":
        raise InvalidRequest("ReloadConfigRequest must hold a model_config_list.", code="CONFIG_MISSING", field="config")
    configs = request.config.model_config_list.config
    if len(configs) > _MAX_MODELS:
        raise InvalidRequest(f"{len(configs)} models are configured; at most {_MAX_MODELS}.", code="TOO_MANY_MODELS", field="config")
    return [_wished(config) for config in configs]


def _wished(config: Any) -> WishedModel:
    policy = config.model_version_policy
    which = policy.WhichOneof("policy_choice") or "latest"
    numbers = tuple(policy.specific.versions)
    if which == "specific" and (not numbers or min(numbers) < 1):
        field = "config.model_version_policy"
        raise InvalidRequest("A specific model_version_policy names versions from 1.", code="BAD_CONFIG", field=field)
    return WishedModel(config.name, config.base_path, which, policy.latest.num_versions or 1, numbers, dict(config.version_labels))
