"""Write the shards of a named data set as private data files, one for each client."""

import shutil
import tempfile
from pathlib import Path

from common import datafiles, virtual
from common.config import Config
from common.errors import UserError


def write_shards(config: Config, out: Path) -> str:
    """Write ``client-0.npz`` … and, with held-out rows, ``test.npz`` into a new directory, all or nothing.

    Returns one line that says what was written.

    Raises
    ------
    UserError
        When the data set cannot be dealt out so, or the directory exists or cannot be written.
    """
    if config.dataset == "file":
        raise UserError("shard takes a named data set, not 'file'")
    if out.exists():
        raise UserError(f"--out {out} exists already; name a new directory")
    parts = [virtual.shard(config, partition) for partition in range(virtual.count(config))]
    files = dict(zip(virtual.names(config), parts, strict=True))
    test = virtual.held_out(config)
    if test is not None:
        files["test"] = test
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
        try:
            for name, part in files.items():
                datafiles.write(unfinished / f"{name}.npz", part)
            unfinished.chmod(0o755)
            unfinished.rename(out)
        except BaseException:
            shutil.rmtree(unfinished)
            raise
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}") from None
    held_out = f" and {len(test.y)} held-out rows" if test is not None else ""
    return f"{out}: {len(parts)} clients with {', '.join(str(len(p.y)) for p in parts)} rows{held_out}"
