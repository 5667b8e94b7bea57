"""Checks for authors of layers, optimizers and backends, and the cases that anynet's own tests run."""
