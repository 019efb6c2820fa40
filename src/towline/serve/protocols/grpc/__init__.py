"""Protocols over gRPC: Open Inference, TensorFlow Serving, health and reflection. The only family that imports grpc and protobuf."""
