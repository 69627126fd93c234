"""What is done with a trained model, and with the centralized one: predict and reference."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from common import config as configuration
from common.config import Config
from common.errors import UserError
from common.files import whole
from localgd.cli.options import ConfigFile, Overrides

OutFile = Annotated[Path | None, typer.Option(metavar="FILE", help="A new file to write to.")]


def predict(
    model: Annotated[
        Path, typer.Argument(metavar="RUN_DIR|MODEL.npz", help="A run's directory, or a model file of one.")
    ],
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Rows to predict: .npz, .csv, .parquet or .svm.")
    ],
    label: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="The label column; if not given, label, where there is one."),
    ] = None,
    out: OutFile = None,
) -> None:
    """Apply a trained model to a file, and say how good it is where labels are known.

    The predictions are CSV, on stdout or in --out FILE: row, label if known, prediction, and a score for each
    class, or of two classes the second's, which is predicted where it is positive. With them on stdout the
    accuracy is on stderr.
    """
    _check_new(out)
    from localgd.prediction import load_model
    from localgd.prediction import predict as predict_rows

    found = predict_rows(load_model(model), data, label)
    if out is None:
        sys.stdout.write(found.table())
        print(found.summary(), file=sys.stderr)
        return
    try:
        with whole(out) as file:
            file.write(found.table().encode())
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from None
    print(found.summary())


def reference(config_file: ConfigFile, override: Overrides = None, out: OutFile = None) -> None:
    """Compute the centralized model of the same data, pooled in this process, and say how good it is.

    With --out FILE it is written as a model file, which the key reference takes.
    """
    config = Config.of(configuration.read(config_file, override or ()))
    _check_new(out)
    from localgd.centralized import centralized

    found = centralized(config)
    print("\n".join(found.lines()))
    if out is None:
        return
    try:
        found.model.save(out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from None
    print(f"written to {out}: compare a run with it by -c reference={out}")


def _check_new(out: Path | None) -> None:
    """Refuse, before anything is computed, to write over a file, or where there is no directory."""
    if out is None:
        return
    if out.exists():
        raise UserError(f"--out {out} exists already; name a new file")
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out {out}: there is no directory {out.absolute().parent}")
