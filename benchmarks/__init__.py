"""Speed and memory, side by side with other packages; results are kept in RESULTS.md.

``python -m benchmarks.inference`` (predictions), ``.loading``, ``.accuracy``, ``.training`` and
``.hotspots`` run from the root of the repository. The files ``fairchem_*.py`` run inside the
environment of fairchem-core (see ``setup_fairchem.sh``) and ``mace_worker.py`` in that of
mace-torch (``setup_mace.sh``), where adatom is not installed; what they import from here needs only
the standard library, NumPy and ASE.
"""
