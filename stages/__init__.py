"""One thin executable per DVC stage: parse, call one function, write outputs."""

import os

# Before torch is imported: threads that wait for one another sleep. Where other work shares the cores, spinning
# slows a training of small steps some thirty times; where none does, sleeping costs nothing that was measured.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
