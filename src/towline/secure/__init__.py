"""Keep models and their answers to those they are meant for."""
