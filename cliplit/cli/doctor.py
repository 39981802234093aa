"""`cliplit doctor`: what works on this machine, what does not, and the command that mends it."""

import json
import platform
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Annotated

import typer
from packaging.requirements import Requirement

from cliplit.cli.shared import flag, print_columns
from cliplit.errors import CliplitError, one_line
from cliplit.files.web import reachable
from cliplit.method.clip_weights import EMBEDDED
from cliplit.scoring.metrics import GROUPS, catalogue
from cliplit.scoring.weights import fetch_weights, hub_address, missing_files, weight_files, why_unavailable

CLIPS = ("ViT-B-32-quickgelu/openai", "RN101-quickgelu/openai")  # of the profile paper
EXTRAS = {"onnx": "export to ONNX", "raw": "RAW photos of cameras", "drive": "data sets on Google Drive"}
LOOKED_FOR = tuple(dict.fromkeys((*GROUPS["paper"], *GROUPS["nr"])))


@dataclass(frozen=True)
class Check:
    """One line: is it ready, what was found, and the command that mends it, if there is one."""

    group: str
    name: str
    ready: bool
    detail: str
    fix: str = ""


def examine(root: Path = Path("data"), clips: Iterable[str] = ()) -> list[Check]:
    """Look at packages, devices, CLIP weights, data sets below `root`, metrics and network; downloads nothing.

    Args:
        clips: MODEL/TAG of open_clip to look at beside those of the profile paper.
    """
    online = reachable(hub_address())
    return [*_packages(), *_devices(), *_clips(online, clips), *_data_sets(root), *_metrics(online), _network(online)]


def demo_can_run(checks: list[Check]) -> bool:
    """Whether the demo has all it needs: packages, a device, and the embedded CLIP."""
    return all(found.ready for found in checks if found.group == "package" or found.name in ("cpu", "tiny"))


def fetch_all(clips: Iterable[str] = (), say: Callable[[str], None] = print) -> None:
    """Fetch the CLIP weights of the paper, and of others, and the weights of metrics, the paper's and the usual ones without reference.

    Files that can be resumed are, and all that have a published SHA-256 are compared with it.

    Raises:
        CliplitError: the network cannot be reached, or what came is not what it should be.
    """
    from cliplit.method.clip_weights import find_weights

    for name in dict.fromkeys((*CLIPS, *clips)):
        find_weights(name)
        say(f"{name}: ready")
    for name in LOOKED_FOR:
        fetch_weights(name)
        rest = missing_files(name)
        say(f"{name}: {_to_come(rest)}")


def _packages() -> list[Check]:
    """What pyproject.toml asks for, and what is installed."""
    wanted = [Requirement(text) for text in requires("cliplit") or ()]
    found = [Check("package", "python", True, platform.python_version())]
    found += [_package("package", one, "make env") for one in wanted if _is_of("", one)]
    for extra, use in EXTRAS.items():
        mends = f"pip install 'cliplit[{extra}]'"
        parts = [_package("extra", one, mends) for one in wanted if _is_of(extra, one) and not _is_of("", one)]
        found += [replace(part, detail=f"{part.detail}; for {use}") for part in parts]
    return found


def _is_of(extra: str, wanted: Requirement) -> bool:
    return wanted.marker is None or wanted.marker.evaluate({"extra": extra})


def _package(group: str, wanted: Requirement, mends: str) -> Check:
    try:
        there = version(wanted.name)
    except PackageNotFoundError:
        return Check(group, wanted.name, False, "not installed", mends)
    fits = wanted.specifier.contains(there, prereleases=True)
    detail = there if fits else f"{there}, wanted is {wanted.specifier}"
    return Check(group, wanted.name, fits, detail, "" if fits else mends)


def _devices() -> list[Check]:
    try:
        import torch
    except ImportError as error:
        return [Check("device", "cpu", False, f"torch cannot be imported ({one_line(error)})", "make env")]
    from cliplit.engine.compute import has_bf16

    bf16 = "bfloat16" if has_bf16(torch.device("cpu")) else "no bfloat16"
    threads = f"{torch.get_num_threads()} threads, {bf16}"
    found = [Check("device", "cpu", True, f"{platform.processor() or platform.machine()}, {threads}")]
    for n in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(n)
        found.append(Check("device", f"cuda:{n}", True, f"{properties.name}, {properties.total_memory >> 30} GiB"))
    if not torch.cuda.device_count():
        found.append(Check("device", "cuda", False, "no GPU that this PyTorch can use; everything runs on the CPU"))
    return found


def _clips(online: bool, more: Iterable[str]) -> list[Check]:
    from cliplit.method.clip_weights import find_weights

    found = [
        _loaded(name, "embedded") if file.is_file() else Check("CLIP", name, False, f"{file} is missing")
        for name, file in EMBEDDED.items()
    ]
    for name in dict.fromkeys((*CLIPS, *more)):
        try:
            path = find_weights(name, download=False)
        except CliplitError as error:
            found.append(Check("CLIP", name, False, str(error)))
            continue
        wanted = ", wanted by the profile paper" if name in CLIPS else ""
        missing = Check("CLIP", name, False, f"not on this machine{wanted}", _by_download(online))
        found.append(_loaded(name, "downloaded") if path else missing)
    return found


def _loaded(name: str, how: str) -> Check:
    """Whether a CLIP that is here is what its name promises."""
    from cliplit.method.clip import load_backbone

    try:
        load_backbone(name)
    except CliplitError as error:
        return Check("CLIP", name, False, str(error))
    return Check("CLIP", name, True, how)


def _data_sets(root: Path) -> list[Check]:
    from cliplit.data.catalog import CATALOG
    from cliplit.data.manifest import has_manifest, read_manifest

    found = [Check("data", "embedded", True, "photos of scikit-image and matplotlib, for the demo")]
    for name, known in CATALOG.items():
        if not has_manifest(root / name):
            fix = f"cliplit data get {name} --root {root}"
            found.append(Check("data", name, False, f"not in {root}", fix))
            continue
        try:
            count = len(read_manifest(root / name).images)
        except CliplitError as error:
            found.append(Check("data", name, False, str(error), f"cliplit data verify {name} --root {root}"))
            continue
        wanted = sum(part.count for part in known.subsets)
        complete = count >= wanted
        detail = f"{count} of {wanted} images in {root / name}"
        found.append(Check("data", name, complete, detail, "" if complete else f"cliplit data get {name} --force"))
    return found


def _metrics(online: bool) -> list[Check]:
    reasons = why_unavailable(LOOKED_FOR, look_online=False)
    found = []
    for name in LOOKED_FOR:
        if name in reasons:
            found.append(Check("metric", name, False, reasons[name], _by_download(online)))
        else:
            detail = "its weights are here" if weight_files(name) else "needs no weights"
            found.append(Check("metric", name, True, detail))
    others = [name for name in catalogue() if name not in LOOKED_FOR]
    lacking = why_unavailable(others, look_online=False)
    ready = [name for name in others if name not in lacking]
    found.append(
        Check("metric", "others", True, f"{len(ready)} of {len(others)} ready: {', '.join(ready)}", "cliplit metrics")
    )
    return found


def _network(online: bool) -> Check:
    detail = "answers" if online else "does not answer; nothing can be downloaded"
    return Check("network", hub_address(), online, detail)


def _to_come(files: list[str]) -> str:
    return f"{', '.join(files)} will be fetched at first use" if files else "ready"


def _by_download(online: bool) -> str:
    return "cliplit doctor --download" if online else "cliplit doctor --download (needs a network)"


def doctor(
    root: Annotated[Path, typer.Option("--root", metavar="DIR", help="Folder of all data sets.")] = Path("data"),
    download: Annotated[
        bool, flag("--download", "First fetch the missing weights of CLIPs and usual metrics.")
    ] = False,
    clip: Annotated[
        list[str], typer.Option(metavar="MODEL/TAG", help="Also look at this CLIP of open_clip; repeatable.")
    ] = (),
    as_json: Annotated[bool, flag("--json", "Print JSON.")] = False,
) -> None:
    """Show what works on this machine.

    And, where something does not, the command that mends it. Exit code 0 if the demo can run.
    """
    from dataclasses import asdict

    if download:
        fetch_all(clip, say=lambda line: print(line, file=sys.stderr))
    checks = examine(root, clip)
    able = demo_can_run(checks)
    if as_json:
        print(json.dumps({"demo": able, "findings": [asdict(check) for check in checks]}, indent=1))
    else:
        print_columns([_row(check) for check in checks])
        print(f"\nthe demo {'can run: make demo' if able else 'cannot run'}")
    if not able:
        raise typer.Exit(2)


def _row(check: Check) -> list[str]:
    fix = f"-> {check.fix}" if check.fix else ""
    return [check.group, check.name, "ok" if check.ready else "-", check.detail, fix]
