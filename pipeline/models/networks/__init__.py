"""Networks and parts of networks that no kept library has."""
