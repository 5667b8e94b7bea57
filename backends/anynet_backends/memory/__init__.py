"""Where arrays lie: order in memory, output buffers, the allocator, reductions by order, room for scores of attention."""
