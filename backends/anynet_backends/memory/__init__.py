"""Memory of NumPy's arrays: layout, output buffers, the allocator, fast reductions, the memory of attention's scores."""
