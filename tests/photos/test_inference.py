"""Tiles change nothing: the result equals the network's on the full frame, at any size, in little memory."""

import contextlib
import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import cliplit
from cliplit.data.demo_images import photo
from cliplit.errors import CliplitError
from cliplit.files.tensors import to_uint8
from cliplit.method.checkpoints import load_enhancer, save_enhancer
from cliplit.method.enhancer import Enhancer
from cliplit.profiles import SMOKE
from cliplit_photos.inference import Inference, enhance, enhance_pixels

SHARED = Path(__file__).parents[3] / "shared"
OFFICIAL = SHARED / "checkpoints" / "clip_lit_official.pth"
PHOTOS = sorted((SHARED / "photos" / "lime").glob("*")) + sorted((SHARED / "photos" / "real_backlit").glob("*"))
ILLUMINATION_TOLERANCE = 1e-5  # absolute, of maps of up to about 2
EDGES_TOLERANCE = 2e-4  # the same, where the map is upsampled along edges: slopes are quotients of small differences
EIGHT_BIT_STEP = 1
BF16_MEAN_STEPS = 1.0  # of 8 bits, mean over pixels
PREVIEW_PSNR = 30.0  # dB to the exact result, with the network at half the size

NETWORKS = {
    "released": {},
    "narrow": {"width": 8, "max_illumination": 2.0},
    "half size": {"width": 16, "downscale": 2, "max_illumination": 2.0},
    "third of the size": {"width": 12, "downscale": 3, "max_illumination": 1.5},
    "fixed size": {"width": 12, "max_illumination": 1.5, "longer_side": 40, "keep_highlights": True},
}
SIZES = [(1, 1), (1, 9), (7, 1), (2, 5), (3, 3), (5, 41), (33, 46), (64, 107), (131, 90)]


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return random_network(**NETWORKS[request.param])


@pytest.fixture(scope="module")
def narrow():
    return random_network(**NETWORKS["narrow"])


def random_network(**architecture) -> Enhancer:
    """A network whose map depends on all of its layers, and is not zero anywhere."""
    network = Enhancer(**architecture).initialize(0).eval()
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim == 4:
                weight *= 1.05 / weight.std() / weight[0].numel() ** 0.5
        network.cond_add1.bias += 1.0
    return network


def random_pixels(height, width, channels=3, dtype=np.uint8) -> np.ndarray:
    """Blotches with noise."""
    generator = torch.Generator().manual_seed(height * 1000 + width)
    blotches = F.interpolate(torch.rand(1, channels, 3, 3, generator=generator), (height, width), mode="bilinear")
    pixels = (0.7 * blotches + 0.3 * torch.rand(1, channels, height, width, generator=generator))[0].movedim(0, -1)
    return pixels.numpy() if dtype == np.float32 else (pixels.numpy() * np.iinfo(dtype).max).round().astype(dtype)


def full_frame(network, pixels) -> tuple[np.ndarray, np.ndarray]:
    """Illumination map and 8-bit result of the network itself."""
    image = torch.from_numpy(pixels).movedim(-1, 0)[None] / 255
    with torch.no_grad():
        illumination = network(image)
    return illumination[0, 0].numpy(), to_uint8(network.divide(image, illumination)[0])


def steps(a, b) -> np.ndarray:
    return np.abs(a.astype(int) - b.astype(int))


@pytest.mark.parametrize("size", SIZES, ids="{0[0]}x{0[1]}".format)
def test_equals_the_full_frame_whatever_the_tiles(network, size):
    pixels = random_pixels(*size)
    expected, expected_result = full_frame(network, pixels)
    assert expected.min() > 0 and (max(size) < 9 or expected.std() > 1e-3)  # the test can see something
    for tile in (3, 16, 45, 500) if max(size) < 50 else (30, 64, 500):
        illumination = np.empty(size, np.float32)
        result = enhance_pixels(network, pixels, Inference(tile=tile), illumination)
        tolerance = EDGES_TOLERANCE if network.architecture["longer_side"] else ILLUMINATION_TOLERANCE
        np.testing.assert_allclose(illumination, expected, rtol=0, atol=tolerance)
        assert steps(result, expected_result).max() <= EIGHT_BIT_STEP


def test_little_memory_changes_nothing(narrow):
    """Neither do features that are computed twice."""
    pixels = random_pixels(150, 120)
    maps = []
    for memory in (1, 2_000_000, 1 << 30):
        maps.append(np.empty((150, 120), np.float32))
        enhance_pixels(narrow, pixels, Inference(max_memory=memory), maps[-1])
    for other in maps[1:]:
        np.testing.assert_allclose(other, maps[0], rtol=0, atol=ILLUMINATION_TOLERANCE)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_memory_is_what_was_asked_for():
    """Peak resident memory of a process over what it had before; the full frame takes 0.9 GB more."""
    code = """
import torch, numpy as np
from cliplit.method.enhancer import Enhancer
from cliplit_photos.inference import Inference, enhance_pixels
kilobytes = lambda key: int(open("/proc/self/status").read().split(key)[1].split()[0])
network, options = Enhancer(8, max_illumination=2.0).initialize(0), Inference(max_memory=64 << 20)
pixels = np.ones((1200, 1200, 3), np.uint8)
enhance_pixels(network, pixels[:64, :64], options)
before = kilobytes("VmRSS:")
enhance_pixels(network, pixels, options)
print((kilobytes("VmHWM:") - before) * 1024)
"""
    used = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 1_000_000 < used < (64 << 20) + 1200 * 1200 * 3 + (48 << 20)  # tiles, result, what malloc keeps for threads


def test_bf16_is_near(network):
    pixels = random_pixels(64, 107)
    near = enhance_pixels(network, pixels, Inference(precision="bf16", tile=40))
    assert 0 < steps(near, full_frame(network, pixels)[1]).mean() < BF16_MEAN_STEPS


def test_same_bytes_again(narrow):
    pixels = random_pixels(64, 107)
    assert np.array_equal(*(enhance_pixels(narrow, pixels, Inference(tile=40)) for _ in range(2)))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_other_depths_give_the_same_image(narrow, dtype):
    eight = random_pixels(20, 30)
    white = np.iinfo(dtype).max if dtype == np.uint16 else 1
    deep = (eight.astype(np.float64) / 255 * white).astype(dtype)
    result = enhance_pixels(narrow, deep, Inference())
    assert result.dtype == dtype and result.max() <= white
    expected = enhance_pixels(narrow, eight, Inference())
    np.testing.assert_allclose(result / white, expected / 255, rtol=0, atol=1 / 255)


def test_strength(narrow):
    pixels = random_pixels(20, 30)
    illumination = np.empty((20, 30), np.float32)
    by_strength = {
        strength: enhance_pixels(narrow, pixels, Inference(strength=strength), illumination)
        for strength in (0.0, 0.5, 1.0, 2.0)
    }
    assert np.array_equal(by_strength[0.0], pixels)
    for strength, result in by_strength.items():
        expected = np.clip(pixels / 255 / illumination[..., None] ** strength, 0, 1) * 255
        assert steps(result, expected.round()).max() <= EIGHT_BIT_STEP


def test_grey_is_three_equal_channels(narrow):
    grey = random_pixels(20, 30, channels=1)
    as_colour = enhance_pixels(narrow, np.repeat(grey, 3, 2), Inference())
    assert np.array_equal(enhance(grey, narrow), as_colour[..., :1])
    assert np.array_equal(enhance(grey[..., 0], narrow), as_colour[..., 0])


def test_alpha_passes_through(narrow):
    colour = random_pixels(20, 30)
    alpha = random_pixels(20, 30, channels=1)
    result = enhance(np.concatenate([colour, alpha], 2), narrow)
    assert np.array_equal(result, np.concatenate([enhance(colour, narrow), alpha], 2))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_pil_images(narrow, mode):
    image = Image.fromarray(random_pixels(20, 30, 1, np.uint16)[..., 0] if mode == "I;16" else random_pixels(20, 30))
    image = image if mode == "I;16" else image.convert(mode)
    image.info["icc_profile"] = b"profile"
    result = enhance(image, narrow)
    assert (result.mode, result.size, result.info) == (mode, image.size, image.info)
    assert np.array_equal(np.asarray(result), enhance(np.asarray(image), narrow))


LAYOUTS = {
    "mirrored": lambda a: a[:, ::-1],
    "BGR": lambda a: a[..., ::-1],
    "turned": np.rot90,
    "every other pixel": lambda a: a[::2, 1::2],
    "planes": lambda a: np.asfortranarray(a),
    "repeated": lambda a: np.broadcast_to(a[:1], a.shape),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
}


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<f4", ">f4", ">f8"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_in_memory(narrow, layout, dtype):
    image = random_pixels(20, 30, 4).astype(dtype)
    image = LAYOUTS[layout](image * 257 if dtype[1:] == "u2" else image / 255 if "f" in dtype else image)
    image = image.astype(dtype, copy=False)
    before = image.copy()
    for part in image, image[..., :3], image[..., 0]:
        result = enhance(part, narrow)
        assert result.dtype == part.dtype and np.array_equal(image, before)
        expected = enhance(np.array(part, np.dtype(dtype).newbyteorder("="), order="C"), narrow)
        assert np.array_equal(result, expected) and not np.array_equal(result, part)
    if dtype == "u1" and layout != "unaligned":
        tensor = torch.from_numpy(before).movedim(-1, 0)[:3].flip(1)
        assert np.array_equal(enhance(tensor, narrow).movedim(0, -1), enhance(before[::-1, :, :3], narrow))


@contextlib.contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


STATES = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "inference mode": torch.inference_mode,
    "grad": torch.enable_grad,
    "another device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind, threads", [("narrow", 1), ("narrow", 2), ("fixed size", 1)])
def test_the_state_of_torch_changes_nothing(kind, state, threads, tmp_path):
    network = random_network(**NETWORKS[kind])
    save_enhancer(network, tmp_path / "a.safetensors", SMOKE, "enhancer0", 1)
    image = torch.from_numpy(random_pixels(44, 58, dtype=np.float32)).movedim(-1, 0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        expected = enhance(image, network, tile=30)
        with STATES[state]():
            found = [enhance(image.clone().requires_grad_(), network, tile=30)]
            if state != "another device":  # on which files would be loaded
                found.append(enhance(image, tmp_path / "a.safetensors", "cpu", tile=30))
    finally:
        torch.set_num_threads(before)
    assert all(result.dtype == torch.float32 and torch.equal(result, expected) for result in found)


def test_networks_of_other_precisions(narrow):
    pixels = random_pixels(20, 30)
    doubled = copy.deepcopy(narrow).double()
    assert np.array_equal(enhance(pixels, doubled), enhance(pixels, narrow))
    assert next(doubled.parameters()).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.uint8])
def test_tensors(narrow, dtype):
    white = 255 if dtype == torch.uint8 else 1
    images = torch.stack([torch.from_numpy(random_pixels(20, 30, 3, np.float32)).movedim(-1, 0)] * 2)
    images = (images * white).to(dtype)
    result = enhance(images, narrow)
    assert (result.dtype, result.shape) == (dtype, images.shape) and result.is_contiguous()
    assert torch.equal(result[0], enhance(images[0], narrow)) and not torch.equal(result, images)


def test_preview_is_near_and_exact_where_the_image_is_small(narrow):
    pixels = to_uint8(photo("astronaut")[:, :200, :260] ** 1.5)
    exact = enhance_pixels(narrow, pixels, Inference())
    assert np.array_equal(enhance_pixels(narrow, pixels, Inference(preview=260)), exact)
    difference = enhance_pixels(narrow, pixels, Inference(preview=130)) / 255 - exact / 255
    assert PREVIEW_PSNR < -10 * np.log10((difference**2).mean()) < 60


BAD = {
    "NaN": (np.full((4, 4, 3), np.nan, np.float32), "NaN"),
    "infinite": (np.full((4, 4, 3), np.inf, np.float32), "infinite"),
    "out of range": (np.full((4, 4, 3), 2.0), "from 0 to 1"),
    "integers": (np.zeros((4, 4, 3), np.int64), "int64"),
    "five channels": (np.zeros((4, 4, 5), np.uint8), r"\(4, 4, 5\)"),
    "batch of arrays": (np.zeros((2, 4, 4, 3), np.uint8), r"\(2, 4, 4, 3\)"),
    "no pixels": (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
    "channels last tensor": (torch.zeros(4, 5, 3), r"\(4, 5, 3\)"),
    "palette": (Image.new("P", (4, 4)), "mode"),
    "text": ("photo.jpg", "str"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_images_are_refused_in_one_line(narrow, name):
    image, match = BAD[name]
    with pytest.raises(CliplitError, match=match) as refusal:
        enhance(image, narrow)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "options, match",
    [
        ({"precison": "bf16"}, "unknown option 'precison'"),
        ({"precision": "fp8"}, "fp32 or bf16"),
        ({"strength": -1.0}, "strength"),
        ({"strength": float("nan")}, "strength"),
        ({"tile": -3}, "tile"),
        ({"max_memory": 0}, "max_memory"),
    ],
)
def test_bad_options_are_refused_in_one_line(narrow, options, match):
    with pytest.raises(CliplitError, match=match):
        enhance(np.zeros((4, 4, 3), np.uint8), narrow, **options)


def test_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CliplitError, match="nothing.safetensors: no such checkpoint"):
        cliplit.enhance(np.zeros((4, 4, 3), np.uint8), tmp_path / "nothing.safetensors")


def test_the_network_is_left_as_it_was(narrow):
    before = {name: value.clone() for name, value in narrow.state_dict().items()}
    enhance_pixels(narrow, random_pixels(9, 9), Inference())
    assert all(torch.equal(value, before[name]) for name, value in narrow.state_dict().items())


@pytest.mark.skipif(
    not (OFFICIAL.exists() and PHOTOS), reason="the authors' checkpoint and photos are not beside the project"
)
@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_authors_checkpoint_on_photos(path):
    """On crops, for speed; `python benchmarks/enhance.py --check DIR` does it on whole photos."""
    network = load_enhancer(OFFICIAL)
    pixels = np.asarray(Image.open(path).convert("RGB"))[100:190, 60:190].copy()
    expected, expected_result = full_frame(network, pixels)
    for tile in (33, 64, 128):
        illumination = np.empty(pixels.shape[:2], np.float32)
        result = enhance_pixels(network, pixels, Inference(tile=tile), illumination)
        assert steps(result, expected_result).max() <= EIGHT_BIT_STEP
        np.testing.assert_allclose(illumination, expected, rtol=0, atol=ILLUMINATION_TOLERANCE)
