"""Which requests an import tries a version with: the user's sample, made ones where declared processing reads encoded inputs, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from towline.core.manifest import Manifest, Processing, Signature
from towline.core.steps import read_steps
from towline.verify.encoded import encoded_inputs, with_rows
from towline.verify.sample_files import load_samples

if TYPE_CHECKING:
    from towline.serve.workers.local import LocalWorker

# Makes the worker that a version is tried in, and has it loaded.
StartWorker = Callable[[Path, Manifest], "LocalWorker"]
_Request = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Requests:
    """`tried` are run first, and values for batches drawn from them; none: random ones are made. `golden` are kept with the version."""

    tried: tuple[_Request, ...] = ()
    golden: tuple[_Request, ...] = ()
    heaviest: _Request | None = None


def requests_for(signature: Signature, processing: Processing | None, sample: Path | None, examples: Sequence[_Request] = ()) -> Requests:
    """Without a sample, `examples` stand for it where no processing is declared.

    Raises ImportRefused for a sample that does not fit the signature.
    """
    own: tuple[_Request, ...] = tuple(load_samples(sample, signature)) if sample is not None else ()
    if not processing or not processing.before:
        return Requests(own or tuple(examples), own or tuple(examples))
    chains, _ = read_steps(processing)
    made = encoded_inputs(chains, signature)
    if not own:
        return Requests((made.pattern,), (*made.singles, made.pattern), made.heaviest)
    # One picture of the user's shows nothing about batches: the made ones stand beside it.
    return Requests((with_rows(own[0], made.pattern),), (*own, *made.singles), made.heaviest)
