"""Evaluate runs, compare them, and report the results.

evaluation    scores of every stage, simple baselines and controls on the test images
tables        tables of stages and differences, and the paper's tables, for one run or several seeds
analysis      the scores, small tables and checks in the notebooks
studies       ablations and guidance variants: many runs that differ in one setting
notebooks     executes the notebooks that are out of date
"""
