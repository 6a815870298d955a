"""Bookinfo's four services, small, with the original's paths, JSON and environment names."""
