"""Measurements of the product, as distributions; run with `python -m bench [NAME…]`."""
