"""What is made of runs: evaluated, compared, told.

evaluation    every stage, simple baselines and the random-CLIP control on the test images
tables        stages, differences, and the paper's tables, of one run or several seeds
analysis      what notebooks show of a run, and what a guidance sees
studies       ablations and guidance variants: many runs, one setting apart
notebooks     the notebooks executed, each when it is out of date
"""
