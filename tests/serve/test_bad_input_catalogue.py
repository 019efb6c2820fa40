"""Where each row of the bad-input catalogue is held: the file, and words of the case in it. A row that loses its case is missed here.

The rows of REST are data in bad_inputs.py, replayed with and without a socket, each followed by a good request.
"""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROWS, LIMITS, SMUGGLING = "serve/bad_inputs.py", "serve/http/test_limits.py", "serve/http/test_smuggling.py"
GRPC, OPEN_INFERENCE, GRPC_WEB = "serve/grpc/test_grpc_server.py", "serve/grpc/test_grpc_openinference.py", "serve/web/test_grpc_web.py"
GRAPHQL, FORMS, FILES = "serve/graphql/test_graphql.py", "serve/codecs/test_multipart.py", "serve/protocols/test_predict_files.py"
PICTURES = "engines/processing/test_image_processing.py"

# The catalogue's number and what is sent -> where, and the words of its cases there.
CATALOGUE: dict[str, tuple[str, tuple[str, ...]]] = {
    # TF Serving's REST
    "1 empty body": (ROWS, ('"empty body"',)),
    "2 an open brace": (ROWS, ('"an open brace"', "offset: 1")),
    "4 neither instances nor inputs": (ROWS, ('"neither instances nor inputs"',)),
    "5 both": (ROWS, ("AMBIGUOUS_FORMAT",)),
    "7 instances an object": (ROWS, ('"instances an object"',)),
    "8 ragged": (ROWS, ('"a ragged row"',)),
    "10 true in a float": (ROWS, ('"true for a float"',)),
    "11 null in a float": (ROWS, ('"null for a float"',)),
    "13 out of an integer's range": (ROWS, ('"300 for uint8"', '"-1 for uint8"', '"2^63 for int64"')),
    "14 NaN and Infinity as bare words": (ROWS, ('"NaN"', '"Infinity"')),
    "16 1e39 for float32": (ROWS, ('"1e39 for float32"',)),
    "17 an integer of 5,001 digits": (ROWS, ('"an integer of 5,001 digits"',)),
    "19 duplicate keys": (ROWS, ('"duplicate keys"', '"a duplicate key in disguise"')),
    "20 encodings": (ROWS, ('"a byte order mark"', '"UTF-16"', '"bad UTF-8"', '"half a surrogate pair"')),
    "22 a batch above the limit": (ROWS, ('"a batch above the limit"',)),
    "23 a body above the limit": (LIMITS, ("whose_length_is_over_the_limit", "one_byte_more_does_not")),
    "25 bombs and codings": (ROWS, ('"a gzip bomb"', '"br"', '"zstd"', '"gzip twice"')),
    "26 content types": (ROWS, ('"text/plain"', "charset=utf-7")),
    "28 an unknown model": (ROWS, ('"an unknown model"',)),
    "29 versions": (ROWS, ('"0", "-1", "01", "9e9", "abc", "latest"',)),
    "31 other methods": (ROWS, ('"GET", "PUT", "DELETE", "TRACE"', "X-HTTP-Method-Override")),
    "32 base64": (ROWS, ('"bad base64"', '"base64 for a number"')),
    # Open Inference, JSON
    "34 no inputs": (ROWS, ('"no inputs"', '"inputs an object"')),
    "35 missing, extra, duplicate": (ROWS, ('"a missing input"', '"an extra input"', '"a duplicate input"')),
    "37 another datatype": (ROWS, ('"another datatype"',)),
    "38 shapes": (ROWS, ('"no shape"', '"an empty shape"', '"a negative dim"', '"a broken dim"', '"a dim of 2^31"')),
    "40 one element less, one more": (ROWS, ('"one element less"', '"one element more"')),
    "41 one symbol, two sizes": (ROWS, ('"one symbol, two sizes"',)),
    "43 BYTES": (ROWS, ('"BYTES that is a number"',)),
    "44 outputs": (ROWS, ('"an unknown output"', '"a duplicate output"', '"10,000 outputs"')),
    "46 ids": (ROWS, ('"an id of 257 characters"', '"an id with a newline"', '"an id that is a number"')),
    "47 classification": (ROWS, ("(0, -1, 2**31, True",)),
    "49 NaN from the model": ("serve/protocols/test_openinference.py", ("nan_is_written_as_null_with_a_warning",)),
    # Open Inference, binary
    "50 header lengths": (ROWS, ('"-1", "abc", "99999999999"', "header length 0")),
    "52 sizes and bytes": (ROWS, ("SHORT_BODY", "TRAILING_BYTES")),
    "53 prefixes of BYTES": (ROWS, ("# 53",)),
    "55 data twice": (ROWS, ("AMBIGUOUS_DATA",)),
    "56 shared memory": (ROWS, ("shared_memory_region", "UNSUPPORTED")),
    # HTTP
    "58 Hosts": (SMUGGLING, ('"two Hosts"', '"no Host"')),
    "59 lines and headers": (SMUGGLING, ('"a folded header"', '"a space before the colon"', '"NUL in a value"')),
    "61 65,537 chunks": (LIMITS, ("65,537 chunks",)),
    "62 what is no HTTP/1.1": (SMUGGLING, ('"HTTP/0.9"', '"HTTP/9.9"', '"the preface of HTTP/2"', '"hello in TLS"', "randbytes(1024)")),
    # gRPC
    "64 too large, and bombs": (GRPC, ("a_message_above_the_limit_never_reaches", "a_gzip_bomb_never_reaches")),
    "65 metadata": (GRPC, ("too_much_metadata",)),
    "67 raw contents": (OPEN_INFERENCE, ("# 67", "TRAILING_BYTES", "AMBIGUOUS_DATA")),
    "68 a raw length": (OPEN_INFERENCE, ("# 68", "got 9")),
    "70 deadlines and cancellation": (GRPC, ("a_late_request_is_answered_and_occupies_nothing", "a_cancelled_request_occupies_nothing")),
    "71 unknown methods": (GRPC, ("an_unknown_service_or_method",)),
    "73 keys in metadata": ("serve/access/test_access.py", ("test_grpc_asks_too", "two_keys_are_not")),
    "74 bad UTF-8": (OPEN_INFERENCE, ("text_that_is_not_utf8",)),
    # gRPC-Web
    "76 bad base64": (GRPC_WEB, ("not base64", "padded at its end only")),
    "77 origins": ("serve/web/test_cors.py", ("a_foreign_origin_or_an_unlisted_header", "any_origin_but_null")),
    # GraphQL
    "79 a body over 32 KiB": (GRAPHQL, ("over_32_kib_is_refused_unread",)),
    "80 aliases, depth, tokens, fragments": (GRAPHQL, ("TOO_MANY_ALIASES", "TOO_DEEP", "1001", "FRAGMENT_CYCLE")),
    "82 arguments": (GRAPHQL, ("an_argument_that_does_not_fit_is_400_and_named",)),
    "83 GET, forms, multipart": (GRAPHQL, ("x-www-form-urlencoded", "multipart/form-data", "== 405")),
    "85 introspection without a key; subscriptions": ("serve/access/test_access.py", ("__schema",)),
    "86 thousands of @skip": (GRAPHQL, ("@skip(if: true)", "fills_no_log")),
    # Multipart
    "88 parts": (FORMS, ("17 files", "10,000 headers")),
    "89 file names": (FILES, ("the_name_of_a_file_is_never_looked_at",)),
    "91 torn, and of another kind": (PICTURES, ('"a torn JPEG"', '"SVG"', '"EPS"', '"TIFF"', '"FITS"', '"PDF"')),
    "92 kinds of pixels": (PICTURES, ("every_kind_of_pixel_is_read_by_its_rule", "exif_orientation", "cmyk")),
}


@pytest.mark.parametrize("row", CATALOGUE)
def test_each_row_of_the_catalogue_has_its_case(row: str) -> None:
    file, words = CATALOGUE[row]
    text = (TESTS / file).read_text()

    assert [word for word in words if word not in text] == []


def test_no_row_of_these_protocols_is_left_out() -> None:
    numbers = [int(row.split()[0]) for row in CATALOGUE]

    assert numbers == sorted(set(numbers))
    assert len(numbers) == 62
