"""Which operations a TensorFlow graph may hold."""

from __future__ import annotations

import pytest

from towline.convert.tensorflow.ops import ALLOWED, SAVING, harm_of

FILES = ["ReadFile", "WriteFile", "WholeFileReaderV2", "MatchingFiles", "SaveV2", "RestoreV2", "MergeV2Checkpoints", "PrintV2", "Print"]
FILES += [
    "LoadAndRemapMatrix",
    "GenerateVocabRemapping",
    "ImmutableConst",
    "TextLineReaderV2",
    "TFRecordReaderV2",
    "DumpTensor",
    "Skipgram",
]
CODE = ["PyFunc", "PyFuncStateless", "EagerPyFunc", "RemoteCall", "XlaCallModule", "Abort"]
DATA = ["TextLineDataset", "TFRecordDatasetV2", "MatchingFilesDataset", "OneShotIterator", "SqlDataset", "GeneratorDataset"]
WIRE = ["RpcCall", "RpcServer", "_Send", "_Recv", "CollectiveReduce", "DataServiceDatasetV4"]
# Their attribute debug_urls may be a file or another machine.
DEBUG = ["DebugIdentity", "DebugIdentityV3", "DebugNumericSummary", "WriteSummary", "CreateSummaryFileWriter"]
# They read a descriptor from a file.
DECODERS = ["DecodeProtoV2", "EncodeProto"]


@pytest.mark.parametrize("op", [*FILES, *CODE, *DATA, *WIRE, *DEBUG, *DECODERS, "NeverHeardOf"])
def test_what_reaches_out_of_the_graph_is_not_allowed(op: str) -> None:
    assert op not in ALLOWED
    assert harm_of(op)


@pytest.mark.parametrize(
    "op", ["MatMul", "Conv2D", "StatefulPartitionedCall", "While", "LookupTableFindV2", "VarHandleOp", "StringSplitV2"]
)
def test_what_computes_is_allowed(op: str) -> None:
    assert op in ALLOWED


def test_nothing_that_saves_is_allowed_to_everybody() -> None:
    assert not SAVING & ALLOWED
