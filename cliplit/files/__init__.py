"""Files of all kinds, in and out. Nothing here knows the method.

To compute with an image, read it with `tensors.read_image`; without torch and for metrics, with `images.decode`; a photo
that is to be written again, with its metadata, depth and alpha, with `cliplit_photos.formats.read_photo`.
"""
