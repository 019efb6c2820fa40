"""The messages of `tensorflow.serving.PredictionService` and `ModelService`, numbered as TensorFlow's own. Pure."""

from __future__ import annotations

from towline.serve.protocols.grpc.descriptors import Table

# In the order of their numbers, from 0.
_TYPES = (
    *("INVALID", "FLOAT", "DOUBLE", "INT32", "UINT8", "INT16", "INT8", "STRING", "COMPLEX64", "INT64", "BOOL", "QINT8", "QUINT8"),
    *("QINT32", "BFLOAT16", "QINT16", "QUINT16", "UINT16", "COMPLEX128", "HALF", "RESOURCE", "VARIANT", "UINT32", "UINT64"),
)

TENSORFLOW = Table(
    package="tensorflow",
    file="towline/tensorflow.proto",
    imports=("google/protobuf/any.proto",),
    messages={
        "TensorShapeProto": ("repeated TensorShapeProto.Dim dim = 2", "bool unknown_rank = 3"),
        "TensorShapeProto.Dim": ("int64 size = 1", "string name = 2"),
        # Complex, resource and variant values (9, 12, 14, 15) are no model's here: they are left unread.
        "TensorProto": (
            "DataType dtype = 1",
            "TensorShapeProto tensor_shape = 2",
            "int32 version_number = 3",
            "bytes tensor_content = 4",
            "repeated float float_val = 5",
            "repeated double double_val = 6",
            "repeated int32 int_val = 7",
            "repeated bytes string_val = 8",
            "repeated int64 int64_val = 10",
            "repeated bool bool_val = 11",
            "repeated int32 half_val = 13",
            "repeated uint32 uint32_val = 16",
            "repeated uint64 uint64_val = 17",
        ),
        "BytesList": ("repeated bytes value = 1",),
        "FloatList": ("repeated float value = 1",),
        "Int64List": ("repeated int64 value = 1",),
        "Feature": ("oneof kind: BytesList bytes_list = 1", "oneof kind: FloatList float_list = 2", "oneof kind: Int64List int64_list = 3"),
        "Features": ("map<string, Feature> feature = 1",),
        "Example": ("Features features = 1",),
        "TensorInfo": ("oneof encoding: string name = 1", "DataType dtype = 2", "TensorShapeProto tensor_shape = 3"),
        "SignatureDef": ("map<string, TensorInfo> inputs = 1", "map<string, TensorInfo> outputs = 2", "string method_name = 3"),
    },
    enums={"DataType": {f"DT_{name}": number for number, name in enumerate(_TYPES)}},
)

_SPEC = "ModelSpec model_spec = 1"
_POLICY = "FileSystemStoragePathSourceConfig.ServableVersionPolicy"

TF_SERVING = Table(
    package="tensorflow.serving",
    file="towline/tensorflow_serving.proto",
    imports=("google/protobuf/any.proto", "google/protobuf/wrappers.proto", TENSORFLOW.file),
    messages={
        "ModelSpec": (
            "string name = 1",
            "oneof version_choice: google.protobuf.Int64Value version = 2",
            "oneof version_choice: string version_label = 4",
            "string signature_name = 3",
        ),
        # 5 (predict_streamed_options) and 7 (request_options) are for models that stream, which none is here.
        "PredictRequest": (
            _SPEC,
            "map<string, tensorflow.TensorProto> inputs = 2",
            "repeated string output_filter = 3",
            "bytes client_id = 6",
        ),
        "PredictResponse": ("map<string, tensorflow.TensorProto> outputs = 1", "ModelSpec model_spec = 2"),
        "ExampleList": ("repeated tensorflow.Example examples = 1",),
        "ExampleListWithContext": ("repeated tensorflow.Example examples = 1", "tensorflow.Example context = 2"),
        "Input": ("oneof kind: ExampleList example_list = 1", "oneof kind: ExampleListWithContext example_list_with_context = 2"),
        "Class": ("string label = 1", "float score = 2"),
        "Classifications": ("repeated Class classes = 1",),
        "ClassificationResult": ("repeated Classifications classifications = 1",),
        "ClassificationRequest": (_SPEC, "Input input = 2"),
        "ClassificationResponse": ("ClassificationResult result = 1", "ModelSpec model_spec = 2"),
        "Regression": ("float value = 1",),
        "RegressionResult": ("repeated Regression regressions = 1",),
        "RegressionRequest": (_SPEC, "Input input = 2"),
        "RegressionResponse": ("RegressionResult result = 1", "ModelSpec model_spec = 2"),
        "InferenceTask": (_SPEC, "string method_name = 2"),
        "InferenceResult": (
            _SPEC,
            "oneof result: ClassificationResult classification_result = 2",
            "oneof result: RegressionResult regression_result = 3",
        ),
        "MultiInferenceRequest": ("repeated InferenceTask tasks = 1", "Input input = 2"),
        "MultiInferenceResponse": ("repeated InferenceResult results = 1",),
        "GetModelMetadataRequest": (_SPEC, "repeated string metadata_field = 2"),
        "GetModelMetadataResponse": (_SPEC, "map<string, google.protobuf.Any> metadata = 2"),
        "SignatureDefMap": ("map<string, tensorflow.SignatureDef> signature_def = 1",),
        "StatusProto": ("int32 error_code = 1", "string error_message = 2"),
        "ModelVersionStatus": ("int64 version = 1", "ModelVersionStatus.State state = 2", "StatusProto status = 3"),
        "GetModelStatusRequest": (_SPEC,),
        "GetModelStatusResponse": ("repeated ModelVersionStatus model_version_status = 1",),
        # Of logging_config (6) there is nothing to read: requests are not logged.
        "ModelConfig": (
            "string name = 1",
            "string base_path = 2",
            "ModelType model_type = 3",
            "string model_platform = 4",
            "FileSystemStoragePathSourceConfig.ServableVersionPolicy model_version_policy = 7",
            "map<string, int64> version_labels = 8",
        ),
        "FileSystemStoragePathSourceConfig": (),
        "FileSystemStoragePathSourceConfig.ServableVersionPolicy": (
            f"oneof policy_choice: {_POLICY}.Latest latest = 100",
            f"oneof policy_choice: {_POLICY}.All all = 101",
            f"oneof policy_choice: {_POLICY}.Specific specific = 102",
        ),
        "FileSystemStoragePathSourceConfig.ServableVersionPolicy.Latest": ("uint32 num_versions = 1",),
        "FileSystemStoragePathSourceConfig.ServableVersionPolicy.All": (),
        "FileSystemStoragePathSourceConfig.ServableVersionPolicy.Specific": ("repeated int64 versions = 1",),
        "ModelConfigList": ("repeated ModelConfig config = 1",),
        "ModelServerConfig": (
            "oneof config: ModelConfigList model_config_list = 1",
            "oneof config: google.protobuf.Any custom_model_config = 2",
        ),
        "ReloadConfigRequest": ("ModelServerConfig config = 1", "repeated string metric_names = 2"),
        "ReloadConfigResponse": ("StatusProto status = 1",),
    },
    enums={
        "ModelVersionStatus.State": {"UNKNOWN": 0, "START": 10, "LOADING": 20, "AVAILABLE": 30, "UNLOADING": 40, "END": 50},
        "ModelType": {"MODEL_TYPE_UNSPECIFIED": 0, "TENSORFLOW": 1, "OTHER": 2},
    },
    services={
        "PredictionService": {
            "Classify": ("ClassificationRequest", "ClassificationResponse"),
            "Regress": ("RegressionRequest", "RegressionResponse"),
            "Predict": ("PredictRequest", "PredictResponse"),
            "MultiInference": ("MultiInferenceRequest", "MultiInferenceResponse"),
            "GetModelMetadata": ("GetModelMetadataRequest", "GetModelMetadataResponse"),
        },
        "ModelService": {
            "GetModelStatus": ("GetModelStatusRequest", "GetModelStatusResponse"),
            "HandleReloadConfigRequest": ("ReloadConfigRequest", "ReloadConfigResponse"),
        },
    },
)
