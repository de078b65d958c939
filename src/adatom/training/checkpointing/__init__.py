"""Training checkpoints: directories from which a run continues on any number of processes."""
