"""Measure a source and its conversion on the owner's labelled data."""

from __future__ import annotations

from collections.abc import Mapping

from towline.app.importing.given import Given
from towline.app.importing.proving import RUN_TIMEOUT_S, Asked
from towline.app.importing.sealing import Candidate, Order, loaded_by
from towline.convert.labels import read_labels
from towline.convert.made import default_of
from towline.core.errors import UsageError
from towline.core.manifest import Signature
from towline.verify.data.dataset import DataSet
from towline.verify.data.opening import open_data
from towline.verify.guarded import plain
from towline.verify.inputs import batch_symbol
from towline.verify.parity.labelled import Labelled, labelled

# Enough for half a per cent of accuracy; a framework on one core is slow.
MOST_ROWS = 2000
_BATCH_ROWS = 64


def labelled_data(given: Given, signatures: Mapping[str, Signature]) -> DataSet | None:
    """The data that was given, read before anything is converted. Raises UsageError for what does not fit the source's inputs."""
    if given.data is None:
        return None
    known = read_labels(given.labels) if given.labels else ()
    data = open_data(given.data, signatures[default_of(signatures)], known=known)
    if data.truth is None:
        raise UsageError(
            f"The data cannot be used: '{given.data.name}' has no labels.",
            code="BAD_DATA",
            field="data",
            hint="Call their column or array 'label'; or give it as --sample.",
        )
    return data.first(MOST_ROWS)


def on_labelled(order: Order, source: Asked, candidate: Candidate, data: DataSet, signature: str) -> Labelled:
    from towline.convert.version import draft_manifest

    order.say(f"Measuring both on {data.rows:,} labelled rows")
    draft = draft_manifest(candidate.copied, candidate.inspected, made=candidate.made)
    rows = _BATCH_ROWS if batch_symbol(draft.signatures[signature]) else 1
    answers = []
    worker = loaded_by(order.start_worker, candidate.copied.folder, draft)
    try:
        for batch in data.batches(rows):
            assert batch.truth is not None
            got = worker.run(batch.inputs, timeout_s=RUN_TIMEOUT_S, place=draft.signature_names.index(signature))
            mine = {name: plain(array) for name, array in got.items()}
            answers.append((batch.truth, source.answer(batch.inputs, signature=signature), mine))
    finally:
        worker.close()
    return labelled(answers)
