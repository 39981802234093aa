"""The same command as `cliplit data get`: python data_scripts/get.py --help"""

import sys

from cliplit.cli.app import main

sys.argv[1:1] = ["data", "get"]
main()
