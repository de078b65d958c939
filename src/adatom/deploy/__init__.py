"""Trained potentials in other programs: LAMMPS and everything that speaks to OpenKIM."""
