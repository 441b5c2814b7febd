"""Those that follow a training, moment by moment."""
