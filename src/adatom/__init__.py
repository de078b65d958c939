"""Machine-learned interatomic potentials, from labelled structures to running simulations."""
