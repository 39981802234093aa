"""Runs a long training, whatever it trains. Nothing here knows CLIP-LIT.

stages      one folder per stage: checks whether it is current, and builds it under a lock
parts       how long a part of the training runs, and which weights are kept
loop        the training loop: logs, keeps the best weights, and resumes where it stopped
record      panels and events for watching a run in progress
interrupts  Ctrl-C: finishes and saves the current iteration first
compute     device, precision, memory
processes   one process or several: which one writes, and how they share a batch
randomness  random draws that depend only on seed, purpose and iteration
"""
