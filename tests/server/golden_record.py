"""Writes down what a real API server answers to the cases: SUBJECT.yaml -> SUBJECT.json, a line per answer.

    PYTHONPATH=src:tests:tests/server python tests/server/golden_record.py 127.0.0.1:17443 CA CERT KEY

The server is one that serves Istio's CRDs, such as apiextensions-apiserver; the certificate is of one who
may do everything there.
"""

import json
import ssl
import sys
from functools import partial
from http.client import HTTPSConnection

from golden_api import GOLDEN, Client, cases, fresh_namespace, play, subjects


def main(place: str, roots: str, certificate: str, key: str) -> None:
    """Records all subjects."""
    context = ssl.create_default_context(cafile=roots)
    context.load_cert_chain(certificate, key)
    client = Client(partial(HTTPSConnection, place, timeout=30, context=context), {})
    for subject in subjects():
        found = []
        for case in cases(subject):
            answers = play(case, fresh_namespace(), client)
            rows = [
                json.dumps({"request": f"{step.method} {step.path}", **answer}, ensure_ascii=False)
                for step, answer in zip(case.steps, answers, strict=True)
            ]
            found.append(f"{json.dumps(case.name)}: [\n " + ",\n ".join(rows) + "\n]")
        (GOLDEN / f"{subject}.json").write_text("{\n" + ",\n".join(found) + "\n}\n")
    client.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
