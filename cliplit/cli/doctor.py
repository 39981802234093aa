"""`cliplit doctor`: what works on this machine, what does not, and the command that fixes it."""

import platform
import sys
from collections.abc import Sequence
from importlib.metadata import distributions, metadata, requires
from typing import Annotated, NamedTuple

import typer
from packaging.requirements import Requirement

from cliplit.cli.shared import flag, print_columns
from cliplit.errors import CliplitError
from cliplit.files.web import hub_address, reachable
from cliplit.method.clip_weights import EMBEDDED, find_weights
from cliplit.scoring.metrics import GROUPS
from cliplit.scoring.weights import fetch_weights, missing_files, why_unavailable

CLIPS = ("ViT-B-32-quickgelu/openai", "RN101-quickgelu/openai")  # of the profile paper
LOOKED_FOR = tuple(dict.fromkeys((*GROUPS["paper"], *GROUPS["nr"])))


class Check(NamedTuple):
    """One line: whether it is ready, what was found, and the command that fixes it, if there is one."""

    group: str
    name: str
    ready: bool
    detail: str
    fix: str = ""


def examine(clips: Sequence[str] = ()) -> list[Check]:
    """Check packages, devices, the weights of CLIPs (including `clips`), metrics and the network."""
    import torch

    from cliplit.method.clip import load_backbone

    found = [Check("package", "python", True, platform.python_version())]
    for extra in ("", *(extra for extra in metadata("cliplit").get_all("Provides-Extra") or () if extra != "dev")):
        fix = f"pip install 'cliplit[{extra}]'" if extra else "make env"
        for wanted in map(Requirement, requires("cliplit") or ()):
            if wanted.marker.evaluate({"extra": extra}) if wanted.marker else not extra:
                there = next((one.version for one in distributions(name=wanted.name)), "not installed")
                ready = there[0].isdigit() and wanted.specifier.contains(there, prereleases=True)
                detail = there if ready else f"{there}, but {wanted.specifier} is needed"
                found.append(Check("extra" if extra else "package", wanted.name, ready, detail, fix))
    found.append(Check("device", "cpu", True, f"{platform.machine()}, {torch.get_num_threads()} threads"))
    gpus = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    found += [Check("device", "cuda", True, f"{gpu.name}, {gpu.total_memory >> 30} GiB") for gpu in gpus]
    online = reachable(hub_address())
    fix = "cliplit doctor --download" + ("" if online else " (needs a network)")
    for name in dict.fromkeys((*EMBEDDED, *CLIPS, *clips)):
        try:
            ready = find_weights(name, download=False) is not None
            load_backbone(name) if ready else None
            found.append(Check("CLIP", name, ready, "weights found" if ready else "weights not found", fix))
        except CliplitError as error:
            found.append(Check("CLIP", name, False, str(error)))
    lacking = why_unavailable(LOOKED_FOR, look_online=False)
    found += [Check("metric", name, name not in lacking, lacking.get(name, ""), fix) for name in LOOKED_FOR]
    found.append(Check("network", hub_address(), online, "answers" if online else "does not answer"))
    return [one._replace(fix="") if one.ready else one for one in found]


def doctor(
    download: Annotated[bool, flag("--download", "First download missing weights of CLIPs and metrics.")] = False,
    clip: Annotated[list[str], typer.Option(metavar="MODEL/TAG", help="Also check this CLIP; repeatable.")] = (),
) -> None:
    """Show what works on this machine.

    If something does not work, its line ends with the command that fixes it. The exit code is 0 if the demo can run.
    """
    if download:
        for name in (*CLIPS, *clip, *LOOKED_FOR):
            fetch_weights(name) if name in LOOKED_FOR else find_weights(name)
            rest = ", ".join(missing_files(name))
            print(f"{name}: {rest + ' will be downloaded at first use' if rest else 'ready'}", file=sys.stderr)
    checks = examine(clip)
    able = all(one.ready for one in checks if one.group == "package" or one.name in ("cpu", "tiny"))
    print_columns([[*one[:2], "ok" if one.ready else "-", one.detail, one.fix and f"-> {one.fix}"] for one in checks])
    print(f"\nthe demo {'can run: make demo' if able else 'cannot run'}")
    if not able:
        raise typer.Exit(2)
