"""The schema, as clients read it: the contract of `/graphql` in one place. Pure."""

from __future__ import annotations

SDL = '''
"""Values in row-major order: a JSON list, flat or nested as the shape says, of numbers, booleans or strings; one of them for a scalar."""
scalar TensorData

"""A whole number of up to 64 bits."""
scalar Long

type Query {
  health: Health!
  "All models, by name."
  models: [Model!]!
  model(name: String!): Model
  "What is to be served: the desired state behind `models`."
  deployments: [Deployment!]!
}

type Mutation {
  """
  Run a model. Of a version or a label, else of the version that the deployment serves by default.
  `outputs` names those wanted, all when it is left out. `timeoutMs` is how long the caller waits, at most.
  """
  predict(model: String!, version: Int, label: String, inputs: [TensorInput!]!, outputs: [String!], timeoutMs: Int): Prediction!
}

type Health {
  live: Boolean!
  ready: Boolean!
  version: String!
}

type Model {
  name: String!
  "Whether some version of it answers now."
  ready: Boolean!
  "Newest first."
  versions: [Version!]!
}

type Version {
  number: Int!
  "START, LOADING, AVAILABLE, UNLOADING or END, as TensorFlow Serving calls them."
  state: String!
  error: String!
  "The rest is null unless the version answers now."
  digest: String
  engine: String
  "Whether requests may share a run: shown when it was imported."
  batchable: Boolean
  "Number of parameters."
  parameters: Long
  inputs: [TensorSpec!]
  outputs: [TensorSpec!]
  labels: [String!]
  metrics: Metrics
}

type TensorSpec {
  name: String!
  "BOOL, UINT8 … FP64, BYTES: the words of the Open Inference Protocol."
  datatype: String!
  "A dim that varies is -1. Null when not even the rank is known."
  shape: [Int!]
}

"Since the server started."
type Metrics {
  requests: Long!
  errors: Long!
  "Received and not yet answered."
  inflight: Int!
  "Interpolated in the buckets of /metrics; null before the first request."
  p50Ms: Float
  p99Ms: Float
}

type Deployment {
  name: String!
  versions: [Int!]!
  "The version that a bare name means."
  default: Int
  labels: [Label!]!
}

type Label {
  name: String!
  version: Int!
}

input TensorInput {
  name: String!
  "Found from `data` when it is left out."
  shape: [Int!]
  "The model's own when it is left out."
  datatype: String
  data: TensorData
  "Instead of `data`: the bytes of the tensor, little-endian, row-major; of BYTES, each element after its length as four bytes."
  b64: String
}

type Prediction {
  model: String!
  version: Int!
  outputs: [Tensor!]!
}

type Tensor {
  name: String!
  datatype: String!
  shape: [Int!]!
  "Flat, in row-major order. NaN and infinity, which JSON has no word for, are null here and whole in `b64`."
  data: TensorData!
  b64: String!
}
'''
