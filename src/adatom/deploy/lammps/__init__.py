"""LAMMPS without KIM: forces computed in Python and added by LAMMPS's ``fix external``."""
