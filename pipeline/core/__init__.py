"""What every part of the pipeline rests on; knows nothing of images, tasks or models."""
