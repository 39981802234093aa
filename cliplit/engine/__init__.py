"""How a long training is run, whatever is trained: nothing here knows CLIP-LIT.

stages      a folder per stage: is it current? build it, alone
parts       how long a part of a training goes on, and which weights are kept
loop        iterations that log, keep the best weights, and go on where they were interrupted
record      what a run in progress leaves for those who watch it
interrupts  Ctrl-C: the iteration at work is finished and saved first
compute     device, precision, memory
processes   one process or several: whose turn, whose share
randomness  draws that follow from seed, purpose and iteration alone
"""
