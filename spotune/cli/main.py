"""The `spotune` command: its commands, and the one place where an error becomes words and an exit code.

Exit codes: 0 done, 1 internal error, 2 refused (usage or request), 3 not found, 4 not authenticated,
5 the API or something it needs does not answer, 6 the job that was waited for failed or was cancelled, 7 `doctor` found
something missing, 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from spotune.cli import (
    accuracy,
    audit,
    budget,
    catalog,
    chat,
    cluster,
    data,
    demo,
    deploy,
    doctor,
    estimate,
    image,
    jobs,
    keys,
    mirror,
    planning,
    registry,
    rules,
    stack,
    webhooks,
)
from spotune.cli.screen import print_error
from spotune.contracts.errors import (
    Conflict,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    RequestRefused,
    SpotuneError,
    TooLarge,
    TooManyRequests,
)
from spotune.contracts.errors import Unavailable as NotAnswering
from spotune.local.state import default_home

INTERNAL, REFUSED, NOT_FOUND, NOT_AUTHENTICATED, UNREACHABLE, INTERRUPTED = 1, 2, 3, 4, 5, 130

_EXIT_CODES: tuple[tuple[type[SpotuneError], int], ...] = (
    (RequestRefused, REFUSED),
    (Conflict, REFUSED),
    (TooLarge, REFUSED),
    (NotFound, NOT_FOUND),
    (NotAuthenticated, NOT_AUTHENTICATED),
    (NotAllowed, NOT_AUTHENTICATED),
    (NotAnswering, UNREACHABLE),
    (TooManyRequests, UNREACHABLE),
)
_LISTED_FAULTS = 10
_DISK_REFUSES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)

app = typer.Typer(
    help="Fine-tune language models on your own AWS account, or on this machine: planned, priced, on spot.",
    epilog="Begin with: spotune demo",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if show_version:
        print(f"spotune {version('spotune')}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


app.command(epilog="Example: spotune plan job.yaml --budget 20")(planning.plan)
app.command(epilog="Example: spotune estimate --model Qwen/Qwen2.5-7B --method qlora --gpu A10G --seq-len 1024")(
    estimate.estimate
)
app.command(epilog="Example: spotune compare-methods --model meta-llama/Llama-3.1-8B --seq-len 2048")(
    estimate.compare_methods
)
app.command(epilog="Example: spotune catalog --gpu L4")(catalog.catalog)
app.command(epilog="Example: spotune accuracy --limit 50")(accuracy.accuracy)
app.command(epilog="Example: spotune audit --limit 50")(audit.audit)
app.command(epilog="Example: spotune budget --month 2026-11")(budget.budget)
app.command(epilog="Example: spotune submit job.yaml --budget 20 --within-hours 6 --wait")(jobs.submit)
app.command("list", epilog="Example: spotune list --limit 5 --json")(jobs.list_jobs)
app.command(epilog="Example: spotune show ftjob-...")(jobs.show)
app.command(epilog="Example: spotune explain ftjob-...")(jobs.explain)
app.command(epilog="Example: spotune watch ftjob-...")(jobs.watch)
app.command(epilog="Example: spotune logs ftjob-... --follow")(jobs.logs)
app.command(epilog="Example: spotune cancel ftjob-...")(jobs.cancel)
app.command(epilog="Example: spotune pause ftjob-...")(jobs.pause)
app.command(epilog="Example: spotune resume ftjob-...")(jobs.resume)
app.command(epilog="Example: spotune retry ftjob-... --set constraints.budget_usd=20 --wait")(jobs.retry)
app.command(epilog='Example: spotune chat ftjob-... --prompt "My parcel is late."')(chat.chat)
app.command(epilog="Example: spotune render job.yaml --target kubeflow --image IMAGE --storage s3://bucket/runs/")(
    cluster.render
)
app.add_typer(data.app, name="data")
app.add_typer(image.app, name="image")
app.add_typer(keys.app, name="keys")
registry.app.command(epilog="Example: spotune models add HuggingFaceTB/SmolLM2-135M-Instruct")(mirror.add)
registry.app.command(epilog="Example: spotune models base")(mirror.base)
registry.app.command(epilog="Example: spotune models verify HuggingFaceTB/SmolLM2-135M-Instruct")(mirror.verify)
registry.app.command(epilog="Example: spotune models remove HuggingFaceTB/SmolLM2-135M-Instruct")(mirror.remove)
app.add_typer(registry.app, name="models")
app.add_typer(rules.app, name="rules")
app.add_typer(webhooks.app, name="webhooks")
app.command(epilog="Example: spotune doctor --json")(doctor.doctor)
app.command(epilog="Example: spotune up")(stack.up)
app.command(epilog="Example: spotune status --json")(stack.status)
app.command(epilog="Example: spotune down")(stack.down)
app.command(epilog="Example: spotune reset --yes")(stack.reset)
app.command(epilog="Example: spotune deploy --init, then: spotune deploy --plan")(deploy.deploy)
app.command(epilog="Example: spotune destroy --settings staging.yaml")(deploy.destroy)
app.command(epilog="Example: spotune demo --no-interruption")(demo.demo)


def main() -> None:
    """Entry point of the `spotune` script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors go to stderr, as JSON under `--json`."""
    machine = "--json" in arguments
    try:
        return int(app(list(arguments), prog_name="spotune", standalone_mode=False) or 0)
    except SpotuneError as error:
        print_error(_words(error), error.body(), machine=machine)
        return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), INTERNAL)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)  # of wrong usage; Typer does not export that exception
        about = context.command_path if context else "spotune"
        fault = error.format_message().rstrip(".")
        message = f"{fault}{'' if fault.endswith('?') else '.'} See `{about} --help`."
        print_error(message, RequestRefused(message, code="usage").body(), machine=machine)
        return REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough; Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERNAL
    except Exception as error:  # the edge of the process: a person gets words, not a trace; SPOTUNE_DEBUG=1 shows it
        if os.environ.get("SPOTUNE_DEBUG"):
            raise
        if isinstance(error, OSError) and error.errno in _DISK_REFUSES:
            refused = _refused_by_disk(error)
            print_error(str(refused), refused.body(), machine=machine)
            return REFUSED
        message = f"Internal error: {type(error).__name__}: {error} Run again with SPOTUNE_DEBUG=1 for the trace."
        print_error(message, SpotuneError(message, code="internal_error").body(), machine=machine)
        return INTERNAL


def _refused_by_disk(error: OSError) -> RequestRefused:
    home = default_home()
    return RequestRefused(
        f"Cannot use {error.filename or 'the disk'}: {error.strerror}.",
        code="disk_unusable",
        remedy=f"Spotune keeps its state in {home}: make room there and see that you may write to it, "
        "or set SPOTUNE_HOME to another folder.",
    )


def _words(error: SpotuneError) -> str:
    """The message, and the first of the dataset's faults that came with it."""
    lines = [str(error)]
    reports = error.details.get("reports")
    for name, report in reports.items() if isinstance(reports, dict) else ():
        faults = report.get("faults", [])
        lines += [
            f"  {name}, line {fault['line']}: {fault['message']}. {fault['remedy']}"
            for fault in faults[:_LISTED_FAULTS]
        ]
        left = report.get("fault_count", 0) - min(len(faults), _LISTED_FAULTS)
        if left > 0:
            lines.append(f"  ... and {left} more in {name}.")
    return "\n".join(lines)
