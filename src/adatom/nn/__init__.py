"""Building blocks of the backbones: bases, harmonics, rotations, convolutions, norms, experts."""
