"""Train a graph: as a PyTorch module, on rows, with the weights written back. Runs in the environment `torch`, and only there."""
