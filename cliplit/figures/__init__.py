"""Figures. Each function saves <run>/figures/NN_name, where NN is the notebook's number, and returns a Picture.

Charts are PNG, grids of photos are JPEG. Neither holds dates or versions. Figures show the first images of the run,
unless `images` selects others.
"""
