"""What a worker does before and after the graph, as the manifest declares it."""
