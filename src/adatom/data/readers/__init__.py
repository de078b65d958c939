"""Readers: one file format per file, all with the signature of ``FrameReader``."""
