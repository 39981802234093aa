"""Commands of the command line that do not need a run, one module for each of the things people come for."""
