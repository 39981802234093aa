"""Scores images with any metric of pyiqa, over files and folders. Nothing here knows the method.

files       `cliplit.score`: reads images once for all metrics, and keeps the scores
metrics     metrics by name, their conventions, their models
weights     the files that metrics need: which ones, where they are, downloading and checking
cache       scores from earlier calls
summary     from scores to tables: means, spreads, paired differences; Markdown, LaTeX
"""
