"""WaveMix-Lite as a library of its own."""
