"""Figures. Each function saves <run>/figures/NN_name, NN being the notebook's number, and returns a Picture.

Charts are PNG, grids of photos JPEG; neither holds dates or versions. Images are always the first ones of the run,
not picked ones, unless `images` says otherwise.
"""
