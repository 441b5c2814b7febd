"""The machinery from raw images to a trained network, importable and testable without DVC."""

import os

# Before torch is imported, by a stage or by the command line: threads that wait for one another sleep. Where other work
# shares the cores, spinning slows a training of small steps some thirty times; where none does, sleeping costs nothing
# that was measured.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
