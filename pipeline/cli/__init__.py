"""The `wavemix` command."""
