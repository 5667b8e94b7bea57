"""The workloads, a file for each group."""
