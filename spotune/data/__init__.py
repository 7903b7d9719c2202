"""Pure over streams of rows: formats, checks, rendering, loss masks, packing."""
