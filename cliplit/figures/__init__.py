"""Figures. Each function saves <run>/figures/NN_name, NN being the notebook's number, and returns a Picture.

runs          notebooks 00 to 03: data, prompts, network, rounds
evaluation    notebook 04: stages and methods
studies       notebooks 05 and 06
style         how they look and are saved

Charts are PNG, grids of photos JPEG; neither holds dates or versions. Images are always the first ones of the run,
not picked ones, unless `images` says otherwise.
"""
