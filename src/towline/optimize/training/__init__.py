"""Train a graph: as a PyTorch module, on rows, with the weights written back. Runs in the environment `torch`, and only there."""

import os

# Threads that wait for one another sleep: spinning takes the processor from whoever has work, such as a service on this machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
