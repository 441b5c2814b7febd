"""The machinery from raw images to a trained network, importable and testable without DVC."""
