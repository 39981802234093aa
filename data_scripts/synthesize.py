"""The same command as `cliplit data synthesize`: python data_scripts/synthesize.py --help"""

import sys

from cliplit.cli.app import main

sys.argv[1:1] = ["data", "synthesize"]
main()
