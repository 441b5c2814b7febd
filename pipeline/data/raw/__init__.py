"""Raw files as the readers see them."""
