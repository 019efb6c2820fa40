"""Faces of the data plane: each turns a wire format into `DataPlane.infer` calls and back."""
