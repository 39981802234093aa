"""The command line. Each command imports heavy libraries itself, so that help and error messages appear quickly."""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

import cliplit
from cliplit.cli import data, runs, score
from cliplit.cli.doctor import doctor
from cliplit.cli.shared import print_columns, shown
from cliplit.engine.interrupts import interrupts
from cliplit.errors import CliplitError, printable
from cliplit.profiles import overrides
from cliplit.settings import from_json

app = typer.Typer(
    help="Reproduce CLIP-LIT (ICCV 2023): unsupervised backlit image enhancement.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.add_typer(data.app, name="data", help="Get, verify, prepare and synthesize data sets.")
for command in (runs.plan, runs.reproduce, runs.train, runs.study, runs.tables, runs.report, runs.settings, doctor):
    app.command()(command)
app.command()(score.score)
app.command("metrics")(score.list_metrics)

INTERRUPTED = 130

Checkpoint = Annotated[Path, typer.Argument(help="A checkpoint: our .safetensors or a released .pth.")]


def main() -> None:
    """Run the command line. An error of cliplit prints one line and exits with code 2; Ctrl-C exits with code 130.

    Characters that stdout cannot encode are replaced. A closed pipe (`| head`) ends the command quietly.
    """
    if hasattr(sys.stdout, "reconfigure"):  # a notebook's stdout does not have it
        sys.stdout.reconfigure(errors="replace")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # about odd files; our own messages say what matters
    try:
        from cliplit_photos.command import enhance  # another package; the kit imports it for this command only

        app.command()(enhance)
        with interrupts():
            try:
                app()
            finally:
                print(end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes the rest at exit
        sys.exit(1)  # as typer does when a pipe is closed
    except (CliplitError, OSError) as error:
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
        print(printable(f"cliplit: error: {reason}"), file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as ended:
        if isinstance(ended, SystemExit) and ended.code != INTERRUPTED:  # typer turns Ctrl-C into this code
            raise
        print("cliplit: interrupted; run the same command again to resume", file=sys.stderr)
        sys.exit(INTERRUPTED)


@app.command()
def export(
    checkpoint: Checkpoint,
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write: .pth, .onnx or .pt2.")],
) -> None:
    """Convert a checkpoint to .pth, .onnx or .pt2.

    The authors' code reads OUT.pth. OUT.onnx and OUT.pt2 run without cliplit (docs/export.md).
    """
    from cliplit.method.checkpoints import export_released
    from cliplit_photos.programs import export_program

    if output.suffix == ".pth":
        export_released(checkpoint, output)
    elif output.suffix in (".onnx", ".pt2"):
        export_program(checkpoint, output)
    else:
        raise CliplitError(f"{output}: unknown ending; use .pth, .onnx or .pt2")
    print(output)


@app.command()
def inspect(checkpoint: Checkpoint) -> None:
    """Print the metadata of a checkpoint."""
    from cliplit.method.checkpoints import load_enhancer, load_prompts, read_metadata

    notes = read_metadata(checkpoint)
    if "model_cfg" not in notes and "settings" in notes:  # model_cfg: a CLIP of data_scripts/train_tiny_clip.py
        stored = from_json(notes.pop("settings"), strict=False)
        notes |= {"profile": stored.profile, "seed": stored.seed} | overrides(stored)
    elif "model_cfg" not in notes:
        try:
            kind = f"prompt pair {tuple(load_prompts(checkpoint).embedding.shape)}"
        except CliplitError:
            load_enhancer(checkpoint)  # its error says what an enhancer must have
            kind = "enhancer"
        notes = {"released format, without metadata:": kind}
    print_columns([[name, shown(value)] for name, value in notes.items()])


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", is_eager=True)] = False) -> None:
    if version:
        print(f"cliplit {cliplit.__version__}")
        raise typer.Exit
