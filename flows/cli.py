"""The command `cuvee`: words in, one function call, words out.

Imports of the packages that do the work stand inside the commands, so that commands that only look
start at once.
"""

import errno
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from catalog.errors import CuveeError, UserError

app = typer.Typer(
    name="cuvee",
    help="Curate multimodal training data into exact, persisted training plans.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _folder(place: str) -> Path:
    from catalog.remote import is_remote

    if is_remote(place):
        raise UserError(
            f"{place}: this needs the catalog's folder, not its copy on an object store",
            fix="run it where the folder is, then `cuvee push`; stats and train take the URL",
        )
    return Path(place)


CatalogOption = Annotated[
    Path, typer.Option("--catalog", parser=_folder, metavar="DIR", help="Folder of the catalog.")
]
PlaceOption = Annotated[
    str, typer.Option("--catalog", metavar="DIR|URL", help="Folder of the catalog, or its URL.")
]
PRECISIONS = "Of the weights: fp32, bf16, int8, int8-dynamic or int4."
SourceOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="[SOURCE.]NAME=VALUE",
        help="What a source of any table is told, such as columns='{images: pic}'; VALUE is YAML.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON lines.")]


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Curate multimodal training data into exact, persisted training plans."""


@app.command()
def sources(
    as_json: JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown tables.")] = False,
    check: Annotated[
        Path | None, typer.Option(help="Compare this catalog's counts with the official ones.")
    ] = None,
) -> None:
    """List the official formats that can be read."""
    if check is not None:
        from flows.statistics import show_proof

        if missed := show_proof(Console(), check):
            raise CuveeError(f"{missed} splits do not hold what their release states")
        return
    from pipeline.listing import sources_markdown
    from pipeline.peek import sources_json, sources_table

    if markdown:
        typer.echo(sources_markdown())
    elif as_json:
        for line in sources_json():
            typer.echo(line)
    else:
        Console().print(sources_table())


@app.command()
def peek(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Source; without it the format is recognised.")
    ],
    root: Annotated[
        Path | None, typer.Argument(metavar="ROOT", help="Folder of the official release.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only this split.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many records.")] = None,
    option: SourceOptions = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a reader yields, without writing anything."""
    from pipeline.jobs import options_of_words
    from pipeline.peek import json_line, show
    from pipeline.peek import peek as look

    if root is None:
        if option:
            raise UserError("options without a source", fix="cuvee peek NAME ROOT --option …")
        from pipeline.recognise import show_guesses

        show_guesses(Console(), Path(name), as_json=as_json)
        return
    told = options_of_words(option or [], [name]).get(name)
    found = look(name, root, split=split, limit=limit, options=told)
    if as_json:
        for item in found:
            sys.stdout.buffer.write(json_line(item))
        sys.stdout.buffer.flush()
    else:
        show(Console(), found)


@app.command()
def ingest(
    pairs: Annotated[list[str] | None, typer.Argument(metavar="[NAME=ROOT]...")] = None,
    catalog: Annotated[Path | None, typer.Option(help="Folder of the catalog.")] = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="cuvee.yaml")] = None,
    option: SourceOptions = None,
    check: Annotated[
        Literal["decode", "markers"] | None,
        typer.Option(help="How pictures are checked: each decoded, or JPEGs by their markers."),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Say what would be done and why.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: cores.")] = None,
    runner: Annotated[
        str, typer.Option(help="process, thread, ray or dask of Prefect, or local without it")
    ] = "process",
) -> None:
    """Read official releases into the catalog; only what changed is done again."""
    from pipeline.jobs import jobs_of_file, jobs_of_pairs

    if file is not None and not pairs:
        if option or check:
            raise UserError(
                f"--option and --check are for NAME=ROOT, and the sources stand in {file}",
                fix="write it there, under the source's `options` or as its `check`",
            )
        folder, jobs = jobs_of_file(file)
        folder = catalog or folder
    elif pairs and catalog is not None and file is None:
        folder, jobs = catalog, jobs_of_pairs(pairs, option or [], check or "decode")
    else:
        raise UserError(
            "say what to ingest", fix="cuvee ingest NAME=ROOT … --catalog DIR, or -f cuvee.yaml"
        )
    console = Console()
    if dry_run:
        from pipeline.ingest import survey_table

        console.print(survey_table(folder, jobs))
        return
    from flows.ingest import run_ingest

    if not run_ingest(folder, jobs, workers=workers, runner=runner, console=console):
        raise typer.Exit(1)


@app.command()
def stats(
    catalog: PlaceOption,
    where: Annotated[
        str | None, typer.Option(help="SQL over sample columns, such as split = 'train'.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Show what this recipe would draw; writes nothing.")
    ] = None,
    plan: Annotated[str | None, typer.Option(help="Show this plan too (id).")] = None,
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page.")] = None,
) -> None:
    """Show what the catalog holds."""
    from flows.statistics import show_statistics

    show_statistics(Console(), catalog, where=where, recipe=recipe, plan=plan, html=html)


@app.command()
def plan(
    catalog: CatalogOption,
    recipe: Annotated[
        str | None, typer.Argument(help="Recipe (YAML), or the name of a shipped one.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of the tokenizer, instead of the recipe's.")
    ] = None,
    from_step: Annotated[
        int | None, typer.Option(min=1, help="Plan what is left from this step on ...")
    ] = None,
    of: Annotated[str | None, typer.Option(help="... of this plan (id).")] = None,
    diff: Annotated[
        tuple[str, str] | None, typer.Option(help="Say what differs between two plans (ids).")
    ] = None,
) -> None:
    """Encode what is new, mix, pack, and commit the training plan; show its pre-flight."""
    if diff is not None and recipe is None:
        from pipeline.plan import Plan
        from pipeline.plan_diff import diff as compare
        from pipeline.plan_diff import report

        Console().print(report(compare(*(Plan.open(catalog, name) for name in diff))))
        return
    if recipe is None or diff is not None or (from_step is None) != (of is None):
        raise UserError(
            "say what to plan",
            fix="cuvee plan RECIPE --catalog DIR, with --from-step K --of PLAN for what is left of a "
            "plan; or cuvee plan --diff A B --catalog DIR",
        )
    from flows.plan import run_plan

    run_plan(recipe, catalog, Console(), tokenizer=tokenizer, of=of, from_step=from_step)


@app.command()
def tokens(
    image: Annotated[list[str], typer.Option(help="Size of a picture, WIDTHxHEIGHT.")],
    policy: Annotated[str, typer.Option(help="Recipe (YAML), or a name such as llava-next.")],
    as_json: JsonOption = False,
) -> None:
    """Show how many tiles and visual tokens a picture becomes."""
    from pipeline.policies import describe, find_policy, parse_size, table

    chosen, sizes = find_policy(policy), [parse_size(size) for size in image]
    if as_json:
        import orjson

        for width, height in sizes:
            typer.echo(orjson.dumps(describe(width, height, chosen)))
    else:
        Console().print(table(sizes, chosen))


@app.command()
def train(
    run: Annotated[Path | None, typer.Argument(help="Run file (YAML).")] = None,
    show: Annotated[
        str | None, typer.Option(help="Print a published run to start from: vpgtrans or llava-1.5.")
    ] = None,
) -> None:
    """Train; rerun the same command to continue after any stop."""
    if show is not None:
        from model.config import shipped_runs

        if show not in (runs := shipped_runs()):
            raise UserError(f"no run named {show}", fix=f"one of {', '.join(runs)}")
        typer.echo(runs[show].read_text(encoding="utf-8"), nl=False)
        return
    if run is None:
        raise UserError("say what to train", fix="cuvee train RUN.yaml, or --show NAME for one")
    from flows.train import run_train

    if code := run_train(run, Console()):
        raise typer.Exit(code)


@app.command(name="eval")
def evaluate(
    run: Annotated[
        Path | None, typer.Argument(help="Folder of a finished run, or its run file.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split to score.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="Only these sources.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many a source.")] = None,
    suite: Annotated[Path | None, typer.Option(help="Score these benchmarks (YAML).")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Score this file of predictions instead of a run.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="For predictions with references.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, of the metric.")] = None,
    catalog: Annotated[Path | None, typer.Option(help="For predictions of a split.")] = None,
    boxes: Annotated[str, typer.Option(help="Convention of predicted boxes.")] = "shikra",
    precision: Annotated[str, typer.Option(help=PRECISIONS)] = "fp32",
) -> None:
    """Score a run, or anybody's predictions, as the official benchmarks do."""
    if (run is None) == (predictions is None):
        raise UserError(
            "say what to score", fix="cuvee eval RUN --split S, or cuvee eval --predictions FILE"
        )
    if predictions is not None:
        from flows.predictions import show_predictions

        show_predictions(
            Console(),
            predictions,
            metric=metric,
            options=option or [],
            catalog=catalog,
            source=None if source is None else source[0],
            split=split,
            boxes=boxes,
        )
        return
    if run is None or (split is None) == (suite is None):
        raise UserError("no split named", fix="add --split S, or --suite FILE")
    from flows.evaluate import run_evaluate, run_suite

    if suite is not None:
        run_suite(run, suite, Console())
        return
    assert split is not None
    from model.quantise import precision_of

    chosen = precision_of(precision)
    run_evaluate(run, split, sources=source, limit=limit, precision=chosen, console=Console())


@app.command()
def demo(folder: Annotated[Path, typer.Argument(help="Where all of it is written.")]) -> None:
    """Walk the whole road on real scans, no download: some minutes; rerun to continue."""
    from flows.demo.flow import run_demo

    run_demo(folder, Console())


@app.command()
def ask(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, or its run file.")],
    question: Annotated[str, typer.Argument(help="What to ask about the picture.")],
    image: Annotated[Path, typer.Option(help="Picture file.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Draw boxes of the answer there; default: beside the picture."),
    ] = None,
    longest: Annotated[int, typer.Option(min=1, help="New tokens at most.")] = 64,
    precision: Annotated[str, typer.Option(help=PRECISIONS)] = "fp32",
) -> None:
    """Ask a trained model about a picture; boxes in its answer are drawn into a copy."""
    from model.ask import ask as answer
    from model.ask import draw
    from model.quantise import precision_of

    reply = answer(run, image, question, longest=longest, precision=precision_of(precision))
    typer.echo(reply.text)
    if reply.boxes:
        drawn = out or image.with_name(f"{image.stem}.boxes.png")
        draw(image, reply.boxes, drawn, reply.masks)
        masks = f" and {len(reply.masks)} masks" if reply.masks else ""
        typer.echo(f"{len(reply.boxes)} boxes{masks} drawn into {drawn}")


@app.command()
def trace(
    plan: Annotated[str, typer.Argument(help="Plan id, its beginning, or its folder.")],
    catalog: Annotated[Path | None, typer.Option(help="Folder of the catalog.")] = None,
    step: Annotated[int | None, typer.Option(min=0, help="List the samples of this step.")] = None,
    sample: Annotated[str | None, typer.Option(help="List the steps that see it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show which samples a step sees, with file and licence, or which steps see a sample."""
    from pipeline.trace import show_trace

    show_trace(Console(), plan, catalog=catalog, step=step, sample=sample, as_json=as_json)


@app.command()
def export(
    plan: Annotated[str, typer.Argument(help="Plan id, its beginning, or its folder.")],
    to: Annotated[str, typer.Option(help="webdataset, parquet, mds, energon, xtuner or llava")],
    out: Annotated[Path, typer.Option(help="Folder to write; a rerun goes on where it stopped.")],
    catalog: Annotated[Path | None, typer.Option(help="Folder of the catalog.")] = None,
) -> None:
    """Write a plan's samples, in the order of training, for another trainer."""
    from flows.export import run_export

    run_export(Console(), plan, to, out, catalog=catalog)


@app.command()
def push(
    url: Annotated[str, typer.Argument(help="s3://bucket/prefix or az://container/prefix")],
    catalog: CatalogOption,
    option: Annotated[
        list[str] | None, typer.Option(help="Storage option KEY=VALUE, as Delta Lake names them.")
    ] = None,
) -> None:
    """Copy a catalog to an object store; only what is new there, a killed copy goes on."""
    from flows.export import run_push

    run_push(Console(), catalog, url, option or [])


@app.command()
def verify(catalog: CatalogOption) -> None:
    """Hash every stored picture again; name the damaged ones, for the next ingest to store again."""
    from flows.statistics import show_verification

    if damaged := show_verification(Console(), catalog):
        raise CuveeError(f"{damaged} damaged or missing pictures\nFix: run `cuvee ingest` again")


def main() -> None:
    """Run the command line; a problem is one message and a non-zero exit code."""
    debug = "--debug" in sys.argv
    try:
        app()
    except CuveeError as error:
        if debug:
            raise
        typer.echo(f"cuvee: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        if debug:
            raise
        typer.echo(f"cuvee: {_explain(error)}", err=True)
        sys.exit(1)


def _explain(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full; nothing was left half written\nFix: free space, run it again"
    return f"{error.strerror or error}: {error.filename or ''}\nFix: check the path and its rights"
