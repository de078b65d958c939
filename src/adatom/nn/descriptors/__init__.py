"""Fixed fingerprints of atoms from the vectors to their neighbors."""
