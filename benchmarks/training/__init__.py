"""One model, one recipe, one device: batches, gradients, optimisers, checkpoints, and the loop (loop.py)."""
