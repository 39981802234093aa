"""Enhances photos of any size, exactly and in bounded memory, file by file, and keeps everything that belongs to them.

inference   `cliplit.enhance`: arrays, tensors, PIL images
tiles       the network over tiles, with the same result as over the whole image
regions     rectangles of an image, and resizing part by part
preview     the map of a small copy, upsampled along edges
options     how to compute and what to write: options of the command
jobs        which photo goes where
batch       many photos: decoding, computing and encoding overlap
page        a page with a slider between before and after
programs    the network as ONNX or a file of torch.export
"""
