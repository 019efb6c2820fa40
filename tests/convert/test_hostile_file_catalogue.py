"""Where each hostile model file is held: rows of the bad-input catalogue and threats, the file of the test, and words of the case in it.

The rows of the protocols are listed beside the server's tests (test_bad_input_catalogue.py). A row that loses its case is missed here.
"""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES, GRAPHS, ARCHIVES = "convert/test_files.py", "convert/test_inspect.py", "convert/test_archives.py"
TFLITE, KERAS, OPS = "convert/tflite/test_tflite_file.py", "convert/test_keras_config.py", "convert/test_tensorflow_ops.py"
HOSTILE, TENSORFLOW, TABULAR = "frameworks/test_hostile_files.py", "frameworks/test_tensorflow.py", "frameworks/test_tabular.py"
PICKLES, VETTED = "convert/pytorch/test_pickled.py", "convert/tabular/test_vetted_pickles.py"
SOURCES, ESCAPES, BOUNDS = "convert/foreign/test_hostile_source.py", "secure/sandbox/test_escapes.py", "secure/sandbox/test_bounds.py"
PICTURES, LOADS = "engines/processing/test_image_processing.py", "serve/reliability/test_failing_loads.py"
HANGING, DIGEST, KILLED = "serve/reliability/test_hanging.py", "core/test_digest.py", "frameworks/test_kill_import.py"

# A row's number, or a threat's, and what it is -> where, and the words of its cases there.
CATALOGUE: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "109 torn, and mutated": (
        (FILES, ("[0.01, 0.1, 0.5, 0.9]", "lacks_only_its_last_byte_is_torn_too")),
        (GRAPHS, ("hundreds_of_mutations_are_refused_or_read_but_harm_nobody", "a_process_that_dies_or_lies_is_a_refusal")),
        (TFLITE, ("a_torn_file_is_refused_or_whole_enough", "four_thousand_changed_files")),
        (TENSORFLOW, ('"torn"', '"torn_keras"', '"torn_h5"', '"torn_frozen"')),
        (TABULAR, ("test_a_torn_file_is_refused", '"pipeline.pkl", 0.01', '"forest.joblib", 0.5')),
        (PICKLES, ("test_a_torn_pickle_is_refused", "a_pickle_that_no_one_wrote_is_refused")),
    ),
    "110 external data": (
        (FILES, ("no_tensor_in_any_place_reaches_out", "missing_external_data_names_tensor_and_file", "EXTERNAL_DATA_SHORT", "2**63 - 1")),
        (TFLITE, ("weights in other files", "lies in another file", "behind its own end")),
        (TENSORFLOW, ("EXTERNAL_DATA_LINK", "ASSET_OUTSIDE")),
    ),
    "112 a graph that contradicts itself": (
        (
            GRAPHS,
            (
                "bytes of data where its dims",
                "[4294967296, 4294967296] need",
                "Two initializers",
                "has a cycle",
                "Nothing in the graph makes",
            ),
        ),
        (TFLITE, ("a_small_file_that_describes_an_endless_one", "run_one_another_in_a_circle")),
    ),
    "113 graphs without end": (
        (
            GRAPHS,
            (
                "nested_thirty_deep_but_not_forty",
                "a_million_nodes_are_refused_before_one_is_looked_at",
                "a_size_that_comes_from_the_request_is_warned_of",
            ),
        ),
        (HANGING, ("a_run_that_never_ends_is_answered_504",)),
        (LOADS, ("a_load_that_never_ends_is_given_up",)),
    ),
    "115 archives": (
        (ARCHIVES, ('"zip: one folder up"', '"tar: a link, then written through"', '"zip: a bomb"', '"zip: twice one name"')),
        (ARCHIVES, ('"tar: a device"', '"zip: too many files"')),
    ),
    # Signatures come with keys and roles; until then what is altered is another digest.
    "116 other bytes, an extra file": ((DIGEST, ('"a byte"', '"one more file"', "were changed after sealing")),),
    "T9 pickles": (
        (
            HOSTILE,
            ('"reduce.pth"', '"build.pt"', '"stack-global.pt"', '"nested.pt"', '"zip-in-zip.pt"', '"seven-zip.pt"', '"truncated.pt"'),
        ),
        # Without walls each of them does what it is for.
        (HOSTILE, ("assert all(told.values())",)),
        (PICKLES, ("nothing_that_a_pickle_names_is_called",)),
        (VETTED, ("what_could_run_code_is_refused_by_name",)),
        (TABULAR, ("a_pickle_that_runs_code_is_refused_by_what_it_calls",)),
    ),
    "T10 Keras": (
        (KERAS, ("# CVE-2025-1550, -8747", "# CVE-2025-9906", "# CVE-2026-1462", '"Lambda"')),
        (TENSORFLOW, ('"lambda_keras"', '"lambda_h5"')),
        (HOSTILE, ('"run.keras"', '"fetch.keras"', '"lookup.keras"')),
    ),
    "T11 operations of TensorFlow": (
        (TENSORFLOW, ('"ReadFile", "WriteFile", "MatchingFiles", "PrintV2", "SaveV2", "RestoreV2", "WholeFileReaderV2", "EagerPyFunc"',)),
        (OPS, ("what_reaches_out_of_the_graph_is_not_allowed", '"NeverHeardOf"')),
        (HOSTILE, ("operations_of_tensorflow_come_to_the_walls",)),
    ),
    "T12 ONNX": (
        (FILES, ("EXTERNAL_DATA_HARD_LINK", "EXTERNAL_DATA_LINK", "a_copy_is_a_fresh_plain_file")),
        (GRAPHS, ("operators_that_need_a_library_are_refused", "functions_that_unfold_without_end")),
    ),
    "T13 long loads": ((LOADS, ("a_load_that_never_ends_is_given_up", "a_broken_new_version_leaves_the_old_one_serving")),),
    "T14 no scanner lowers a wall": (
        (HOSTILE, ("what_no_list_knows_is_stopped_by_name_when_it_acts",)),
        (SOURCES, ("what_nobody_hears_comes_to_the_wall",)),
        (ESCAPES, ("no_attempt_gets_out", "the_same_attempts_succeed_without_walls")),
        (BOUNDS, ("where_no_walls_stand_nothing_is_started", "memory_is_bounded", "a_fork_bomb_stops")),
    ),
    "T15 archives": ((ARCHIVES, ('"zip: overlapping entries"', "64-bit size", '"zip: a NUL in a name"', '"tar: a sparse file"')),),
    "T16 pictures": ((PICTURES, ("a_bomb_is_refused_by_its_header_and_never_decoded", '"EPS"', '"FITS"', '"TIFF"')),),
    "T17 a swapped model": ((LOADS, ("test_a_changed_file_is_never_loaded",)), (DIGEST, ("test_any_change_is_another_digest",))),
    "an import that is killed": ((KILLED, ("killed_at_each_step", "killed_at_random_moments")),),
}


@pytest.mark.parametrize("row", CATALOGUE)
def test_each_hostile_file_has_its_case(row: str) -> None:
    missing = [(file, word) for file, words in CATALOGUE[row] for word in words if word not in (TESTS / file).read_text()]

    assert missing == []


def test_no_row_and_no_threat_is_left_out() -> None:
    names = [row.split()[0] for row in CATALOGUE]

    assert names == ["109", "110", "112", "113", "115", "116", *(f"T{number}" for number in range(9, 18)), "an"]
