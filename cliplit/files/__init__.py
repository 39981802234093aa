"""Reading and writing files. Nothing here knows the method.

To compute with an image, read it with `tensors.read_image`. Without torch, and for metrics, use `images.decode`. To write
a photo back with its metadata, depth and alpha, read it with `cliplit_photos.formats.read_photo`.
"""
