"""Run by test_tfserving_api_client.py in TensorFlow's environment: the stubs of tensorflow-serving-api. Prints JSON.

python tfserving_session.py GRPC_ADDRESS
"""

import json
import sys

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

WAIT_S = 60
CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
x = np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)
channel = grpc.insecure_channel(sys.argv[1])
prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
management = model_service_pb2_grpc.ModelServiceStub(channel)


def spec(name, number=None, **more):
    found = model_pb2.ModelSpec(name=name, **more)
    if number is not None:
        found.version.value = number
    return found


def predict(name, number=None, given=x, **more):
    request = predict_pb2.PredictRequest(model_spec=spec(name, number), inputs={"x": tf.make_tensor_proto(given)}, **more)
    return prediction.Predict(request, timeout=WAIT_S)


def predicted(*words, **more):
    return tf.make_ndarray(predict(*words, **more).outputs["y"]).tolist()


def examples(*rows):
    made = [tf.train.Example(features=tf.train.Features(feature={"x": tf.train.Feature(float_list={"value": row})})) for row in rows]
    return input_pb2.Input(example_list=input_pb2.ExampleList(examples=made))


def classified(result):
    return [[[one.label, one.score] for one in row.classes] for row in result.classifications]


def state(name):
    request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec(name))
    found = management.GetModelStatus(request, timeout=WAIT_S).model_version_status
    states = get_model_status_pb2.ModelVersionStatus.State
    return [[one.version, states.Name(one.state), one.status.error_code] for one in found]


def reload(*names):
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    for name in names:
        request.config.model_config_list.config.add(name=name, model_platform="tensorflow")
    return management.HandleReloadConfigRequest(request, timeout=WAIT_S).status.error_code


def refusal(call):
    try:
        call()
    except grpc.RpcError as error:
        return f"{error.code().name} {error.details()}"
    return "was not refused"


def metadata(name):
    request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec(name), metadata_field=["signature_def"])
    answer = prediction.GetModelMetadata(request, timeout=WAIT_S)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    told = json_format.MessageToDict(signatures.signature_def["serving_default"])
    return {"version": answer.model_spec.version.value, "inputs": told["inputs"], "outputs": told["outputs"], "method": told["methodName"]}


def many(*tasks):
    request = inference_pb2.MultiInferenceRequest(input=examples([0.25], [4.0]))
    for method in tasks:
        request.tasks.add(model_spec=spec("one"), method_name=method)
    (first, second) = prediction.MultiInference(request, timeout=WAIT_S).results
    return [classified(first.classification_result), [one.value for one in second.regression_result.regressions]]


classify = classification_pb2.ClassificationRequest(model_spec=spec("pets"), input=examples([0.25, 0.75], [1, 0]))
regress = regression_pb2.RegressionRequest(model_spec=spec("one"), input=examples([0.5], [-2.0]))
answered = predict("mlp").model_spec
said = {
    "predict": predicted("mlp"),
    "version 1": predicted("mlp", 1),
    "answered": [answered.name, answered.version.value, answered.signature_name],
    "text": [word.decode() for row in predicted("text", given=[["a", "你好"]]) for word in row],
    "many rows": predicted("mlp", given=np.repeat(x, 16, axis=0)),
    "filtered": sorted(predict("mlp", output_filter=["y"]).outputs),
    "classify": classified(prediction.Classify(classify, timeout=WAIT_S).result),
    "regress": [one.value for one in prediction.Regress(regress, timeout=WAIT_S).result.regressions],
    "multi": many(CLASSIFY, REGRESS),
    "metadata": metadata("mlp"),
    "status": state("mlp"),
    "short": refusal(lambda: predict("mlp", given=x[:, :9])),
    "version 9": refusal(lambda: predict("mlp", 9)),
    "nobody": refusal(lambda: state("nobody")),
    "reload": reload("mlp"),
}
said["after the reload"] = {"mlp": state("mlp")[0][1], "pets": refusal(lambda: predict("pets", given=x[:, :2]))}
said["reload back"] = reload("mlp", "pets", "one", "text")
said["after all"] = predicted("pets", given=[[0.25, 0.75]])
said["reload of nobody"] = refusal(lambda: reload("nobody"))
print(json.dumps(said))
