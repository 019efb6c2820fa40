"""TensorFlow and Keras: read, answered and converted in the environment `tensorflow`, behind the walls."""
