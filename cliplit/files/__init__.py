"""Files of all kinds, in and out. Nothing here knows the method.

atomic      written completely or not at all; JSON; digests; the user's cache folder
folders     image files found in folders
pairs       images and references, paired by their names
images      image files decoded to arrays
tensors     the same as tensors in [0, 1], and back; the guided filter
archives    unpacked safely
web         downloaded: resumed, tried again, checked; also from Google Drive

How is an image read? Three ways, for three ends:
*  `tensors.read_image`: a tensor (3, H, W) in [0, 1], to compute with;
*  `images.decode`: an array (H, W, 3) of 8 or 16 bits, where torch is not wanted, and for metrics;
*  `cliplit_photos.formats.read_photo`: a photo with its metadata, depth and alpha, to be written again as faithfully.
"""
