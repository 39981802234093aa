"""The same command as `cliplit data prepare`: python data_scripts/prepare.py --help"""

import sys

from cliplit.cli.app import main

sys.argv[1:1] = ["data", "prepare"]
main()
