"""The command line: options and words. A module for what people come for; `app` puts the commands together."""
