"""TensorFlow Lite / LiteRT files: read by ourselves first, then answered by LiteRT and served by it."""
