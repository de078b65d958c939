"""Batches as the graphs of other libraries: PyTorch Geometric and DGL."""
