"""Photos enhanced: of any size, exactly, in bounded memory, file by file, with everything that belongs to them.

inference   `cliplit.enhance`: arrays, tensors, PIL images
tiles       the network over tiles, equal to the full frame
regions     rectangles of an image, and its resizing part by part
preview     the map of a small copy, upsampled along edges
options     how to compute and what to write: options of the command
jobs        which photo goes where, and which are done
batch       many photos: decoding, computing and encoding overlap
page        a page with a slider between before and after
programs    the network as ONNX or a file of torch.export
"""
