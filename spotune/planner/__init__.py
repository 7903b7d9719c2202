"""Pure planning: memory, throughput, interruptions, cost, and the search over the catalog."""
