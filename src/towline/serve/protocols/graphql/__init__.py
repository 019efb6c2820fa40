"""GraphQL on the HTTP port: what is served, how it does, and `predict` as a mutation. Its library is an extra, loaded at the first use."""
