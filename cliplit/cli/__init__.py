"""The command line: one module for each of the things people come for. Nothing here but options and words.

app       all commands; errors of ours in one line
runs      plan, reproduce, train, study, tables, publish, settings
data      data list, get, verify, prepare, synthesize
enhance   enhance
score     score, metrics
doctor    doctor
shared    kinds of options, and how values are printed
"""
