"""What `predict` and `towline.load` do: a version answers in this process or in a worker."""
