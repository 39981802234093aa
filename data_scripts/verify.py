"""The same command as `cliplit data verify`: python data_scripts/verify.py --help"""

import sys

from cliplit.cli.app import main

sys.argv[1:1] = ["data", "verify"]
main()
