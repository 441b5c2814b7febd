"""Networks and trainings on disk."""
