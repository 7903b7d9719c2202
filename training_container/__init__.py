"""What runs on the GPU: load, mask, pack, adapt, train, checkpoint, evaluate, publish."""
