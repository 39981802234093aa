"""Guidances: losses that lead the enhancement network to well-lit results. `registry` lists all kinds."""
