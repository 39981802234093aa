"""Images measured: any metric of pyiqa, over files and folders. A score knows no method.

files       `cliplit.score`: read once, shared by all metrics, kept for the next time
metrics     metrics by name, their conventions, their models
weights     the files that metrics need: which, where, fetched and checked
cache       what was found out before
summary     from scores to tables: means, spreads, paired differences; Markdown, LaTeX
"""
