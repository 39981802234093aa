"""Guidances: what leads the enhancement network from backlit to well-lit images; `registry` has all of them by kind."""
