"""What Lambda's bundle weighs, and what its imports cost a cold start, with ready-made bytecode and without.

    make bench-bundle

Of the locked wheels for this machine's Python, in a process that has nothing else. Processor time, since a Lambda has a
processor to itself; the median of several processes.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

from spotune.deploy import bundle, wheels

IMPORTS = 7
_IMPORT = "import sys; sys.path.insert(0, sys.argv[1]); import handlers.api, spotune.store.dynamo, boto3"


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        packages = wheels.packages_for(cache, f"{sys.version_info.major}.{sys.version_info.minor}", "x86_64")
        print(f"| Python {packages.platform} | zip, MB | on Lambda's disk, MB | imports of the API, s of processor |")
        print("|---|---|---|---|")
        for name, compiler in (("compiled", packages.compiler), ("not compiled", None)):
            sources = bundle.BundleSources.installed(replace(packages, compiler=compiler))
            made = bundle.build(cache, sources)
            sizes = made.stat().st_size / 1e6, bundle.unpacked_bytes(made) / 1e6
            print(f"| {name} | {sizes[0]:.1f} | {sizes[1]:.1f} | {import_seconds(made):.2f} |")


def import_seconds(made: Path) -> float:
    """Processor seconds of a fresh process that imports what the API's function does."""
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(made).extractall(folder)
        return statistics.median(_one_import(folder) for _ in range(IMPORTS))


def _one_import(folder: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-B", "-I", "-S", "-c", _IMPORT, folder], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
