"""PyTorch: TorchScript, torch.export programs, weights with their code, and pickled modules. Only some of these files need torch."""
