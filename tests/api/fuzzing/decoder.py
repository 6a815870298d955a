"""Bytes -> documents -> objects -> problems, as a fuzzer feeds them: any other exception is a finding.

python tests/api/fuzzing/decoder.py CORPUS… -max_total_time=3600     (libFuzzer's options)

The first byte says which door the rest comes through: a file of the command line, a body in JSON or YAML, a
body in Kubernetes' protobuf.
"""

import sys

import atheris

with atheris.instrument_imports(include=["isthmus.api", "isthmus.server.kube_protobuf", "ruamel.yaml"]):
    from isthmus.api.codec import decode, encode
    from isthmus.api.documents import read_documents
    from isthmus.api.kinds import KINDS
    from isthmus.api.support import untranslated
    from isthmus.api.validate import validate
    from isthmus.server.kube_bodies import json_value, yaml_value
    from isthmus.server.kube_protobuf import Undecodable, document
    from isthmus.server.status_errors import Failure

DOORS = 4


def one(data: bytes) -> None:
    """What a finding comes out of."""
    door, rest = (data[0] % DOORS, data[1:]) if data else (0, b"")
    for value in _values(door, rest):
        obj, problems = decode(value)
        for problem in problems:
            str(problem)
        if obj is None:
            assert problems, "refused without a reason"
            continue
        for problem in (*validate(obj), *untranslated(obj)):
            str(problem)
        for api_version in KINDS[obj.key.kind].api_versions:
            again, faults = decode(encode(obj, api_version))
            assert again == obj, (obj, again, faults)


def _values(door: int, data: bytes) -> list[object]:
    try:
        if door == 0:
            documents, unreadable = read_documents(data.decode(), "fuzz")
            for place in unreadable:
                str(place)
            return [found.data for found in documents]
        if door == 1:
            return [json_value(data)]
        if door == 2:
            return [yaml_value(data)]
        return [document(data)]
    except (Failure, Undecodable, UnicodeDecodeError):
        return []


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
