"""Data sets: downloaded, verified, prepared and synthesized; and the images of the demo. Nothing here knows a run.

catalog       the data sets of the paper: where they are, how many images, whose
get           downloaded or given by hand, unpacked, checked, put in place
verify        counts, readability, duplicates, pairs
manifest      which image serves for what: dataset.json, and folders given directly
prepare       resized copies of one's own folders
synthesize    backlit images and test pairs of any photos
relight       the simulation of backlight
demo_images   the photos that scikit-image and matplotlib carry
"""
