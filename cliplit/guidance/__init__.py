"""Alias for one version: guidance files of one's own import `cliplit.method.guidance.base` from now on."""
