"""One system over several workers."""
