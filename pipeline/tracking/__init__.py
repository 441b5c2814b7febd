"""MLflow: the only package that touches its client."""
