"""`make package`: the zip that `func azure functionapp publish` would upload, without Core Tools.

The rule: the same tree gives the same bytes. What is in it is .funcignore's to say, read as git reads its own; names are
sorted, and times and permissions fixed. Packages are not in it: Azure's remote build installs requirements.txt.
"""

import argparse
import hashlib
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pathspec import GitIgnoreSpec

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "dist" / "tollgate.zip"

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can tell
_MODE = 0o100644 << 16


def files(root: Path = ROOT) -> list[str]:
    """What is deployed, as sorted paths from `root` with slashes."""
    ignored = GitIgnoreSpec.from_lines((root / ".funcignore").read_text(encoding="utf-8").splitlines())
    return sorted(_kept(root, root, ignored))


def build(output: Path = OUTPUT, root: Path = ROOT) -> list[zipfile.ZipInfo]:
    """Write the zip. Returns what is in it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(output, "w") as package:
        for name in files(root):
            entry = zipfile.ZipInfo(name, _EARLIEST)
            entry.external_attr, entry.create_system = _MODE, 3  # unix, wherever this runs
            package.writestr(entry, (root / name).read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)
        return package.infolist()


def _kept(folder: Path, root: Path, ignored: GitIgnoreSpec) -> Iterator[str]:
    for path in folder.iterdir():
        name = path.relative_to(root).as_posix()
        if path.is_dir():
            if not ignored.match_file(f"{name}/"):
                yield from _kept(path, root, ignored)
        elif not ignored.match_file(name):
            yield name


def main(arguments: Sequence[str]) -> int:
    """Builds it, and prints what is in it, how large it is, and its hash. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m devtools.package", description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE", help="default: dist/tollgate.zip")
    output: Path = parser.parse_args(arguments).output
    entries = build(output)
    for entry in entries:
        print(f"{entry.file_size:>9,}  {entry.filename}")
    digest = hashlib.sha256(output.read_bytes()).hexdigest()
    print(f"{len(entries)} files, {output.stat().st_size:,} bytes: {output}\nsha256 {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
